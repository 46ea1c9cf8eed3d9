/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "affine.h"
#include "paper_layers.h"

#define BIAS_UNIT 0x1p-16f
#define BIAS_MAX 0x1p30f

/* sum (w - z_w) x of row r */
static int32_t sum_of(const layer_t *l, const pieces_t *p, int r) {
    int32_t sum = 0, zero = l->range->zero;
    int step = l->g.kind == DEPTHWISE ? l->g.c : 1, offset = l->g.kind == DEPTHWISE ? r : 0;
    for (int k = 0; k < p->count; k++) {
        const uint8_t *x = (const uint8_t *)l->input + input_of(p, k) + offset;
        const uint8_t *w = (const uint8_t *)l->weights + r * l->g.columns + column_of(p, k);
        if (step == 1)
            for (int i = 0; i < p->length; i++)
                sum += x[i] * (w[i] - zero);
        else
            for (int i = 0; i < p->length; i++)
                sum += x[i * step] * (w[i] - zero);
    }
    return sum;
}

float forward_bytes(const layer_t *l, float scale, float *logits, int training) {
    uint8_t *y = l->output;
    const int32_t *biases = l->biases;
    int32_t peak = 0, none;
    float out_scale = scale_of(0.0f, l->range->peak, &none);
    scale = l->range->scale * scale;
    float ratio = scale / out_scale, bias_unit = BIAS_UNIT / scale;
    for (int position = 0; position < positions(&l->g); position++) {
        pieces_t p;
        pieces_of(&l->g, position, &p);
        for (int r = 0; r < l->g.rows; r++) {
            int32_t acc = sum_of(l, &p, r) + whole((float)biases[r] * bias_unit, BIAS_MAX);
            if (!l->g.relu) {
                logits[r] = (float)acc * scale;
                continue;
            }
            peak = acc > peak ? acc : peak;
            *y++ = code((float)acc * ratio + 0.5f, 0);
        }
    }
    if (training && l->g.relu)
        l->range->peak = follow(l->range->peak, (float)peak * scale);
    return out_scale;
}

static void back_through(const layer_t *l, const pieces_t *p, int r, int32_t e) {
    int step = l->g.kind == DEPTHWISE ? l->g.c : 1, offset = l->g.kind == DEPTHWISE ? r : 0;
    int32_t zero = l->range->zero;
    for (int k = 0; k < p->count; k++) {
        int32_t *behind = (int32_t *)l->behind + input_of(p, k) + offset;
        const uint8_t *w = (const uint8_t *)l->weights + r * l->g.columns + column_of(p, k);
        if (step == 1)
            for (int i = 0; i < p->length; i++)
                behind[i] += e * (w[i] - zero);
        else
            for (int i = 0; i < p->length; i++)
                behind[i * step] += e * (w[i] - zero);
    }
}

static void add_gradient(const layer_t *l, const pieces_t *p, int r, int32_t e, int32_t *row) {
    int step = l->g.kind == DEPTHWISE ? l->g.c : 1, offset = l->g.kind == DEPTHWISE ? r : 0;
    for (int k = 0; k < p->count; k++) {
        const uint8_t *x = (const uint8_t *)l->input + input_of(p, k) + offset;
        int32_t *g = row + column_of(p, k);
        if (step == 1)
            for (int i = 0; i < p->length; i++)
                g[i] += e * x[i];
        else
            for (int i = 0; i < p->length; i++)
                g[i] += e * x[i * step];
    }
}

void backward_bytes(const layer_t *l, float x_scale, float e_scale, int32_t zero, int back,
                    int32_t *row) {
    const uint8_t *errors = l->errors;
    int rows = l->g.rows, columns = l->g.columns;
    float scale = e_scale * x_scale;
    if (back)
        memset(l->behind, 0, (size_t)n_in(&l->g) * sizeof(int32_t));
    for (int r = 0; r < rows; r++) {
        int32_t total = 0;
        int learns = 0;
        for (int position = 0; position < positions(&l->g); position++) {
            int32_t e = errors[position * rows + r] - zero;
            pieces_t p;
            if (!e)
                continue;
            pieces_of(&l->g, position, &p);
            if (back)
                back_through(l, &p, r, e);
            if (!l->gradients)
                continue;
            if (!learns)
                memset(row, 0, (size_t)columns * sizeof *row);
            learns = 1;
            total += e;
            add_gradient(l, &p, r, e, row);
        }
        if (!learns)
            continue;
        float *g = l->gradients + r * columns;
        for (int i = 0; i < columns; i++)
            g[i] += (float)row[i] * scale;
        l->gradients[rows * columns + r] += (float)total * e_scale;
    }
}

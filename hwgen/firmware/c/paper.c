/* SPDX-License-Identifier: Apache-2.0 */
#include "paper.h"

#include <stddef.h>
#include <string.h>

#include "affine.h"
#include "paper_layers.h"
#include "partial_updates.h"
#include "softmax.h"

#define INPUT_SCALE (1.0f / 255.0f)

#define VALUE uint8_t
#define SUM uint32_t
#define MEAN(sum, g) (((sum) * (g)->reciprocal + 32768) >> 16)
#define SHARE(e, g) (e)
#define POOL(name) name##_bytes
#include "pool.h"
#include "pool_back.h"
#undef VALUE
#undef SUM
#undef MEAN
#undef SHARE
#undef POOL

#define VALUE float
#define SUM float
#define MEAN(sum, g) ((sum) / (float)(g)->columns)
#define SHARE(e, g) ((e) / (float)(g)->columns)
#define POOL(name) name##_floats
#include "pool.h"
#include "pool_back.h"

static int classes(const network_t *net) { return net->layers[net->n_layers - 1].g.rows; }
static int n_out(const geometry_t *g) { return positions(g) * g->rows; }

void enter(const network_t *net, const uint8_t *pixels, int training) {
    (void)training;
    memcpy(net->layers[0].input, pixels, (size_t)n_in(&net->layers[0].g));
}

/* ---- forward ---- */

/* Floats in the place of bytes: from the last one on, none is overwritten before it is read. */
static void dequantize(void *place, int n, float scale) {
    const uint8_t *q = place;
    float *x = place;
    while (n--)
        x[n] = (float)q[n] * scale;
}

/* Leaves the scale of each layer's input in `scales`. */
static void forward(const network_t *net, float *scales, int training) {
    float scale = INPUT_SCALE;
    for (int n = 0; n < net->n_layers; n++) {
        const layer_t *l = &net->layers[n];
        int floats = n >= net->floats;
        if (n == net->floats)
            dequantize(l->input, n_in(&l->g), scale);
        if (scales)
            scales[n] = scale;
        if (is_linear(&l->g) && floats)
            forward_floats(l, net->logits);
        else if (is_linear(&l->g))
            scale = forward_bytes(l, scale, net->logits, training);
        else if (floats)
            forward_pool_floats(&l->g, l->input, l->output);
        else
            forward_pool_bytes(&l->g, l->input, l->output);
    }
}

int predict(const network_t *net) {
    int best = 0;
    forward(net, NULL, 0);
    for (int c = 1; c < classes(net); c++)
        if (net->logits[c] > net->logits[best])
            best = c;
    return best;
}

/* ---- backward ---- */

/* Keeps the errors of the structures that learn from this sample; the others become 0. */
static void choose(const network_t *net, const layer_t *l, int floats, float scale, int32_t zero,
                   const settings_t *settings) {
    uint32_t *size = net->magnitudes, total = 0, e;
    uint8_t *codes = l->errors;
    float *errors = l->errors;
    int n = l->g.rows;
    if (settings->lmin >= FRACTION_ONE)
        return;
    memset(size, 0, (size_t)n * sizeof *size);
    for (int i = 0; i < n_out(&l->g); i++) {
        int32_t one = floats ? whole((errors[i] < 0.0f ? -errors[i] : errors[i]) * 0x1p16f, 0x1p16f)
                             : codes[i] - zero;
        size[i % n] += (uint32_t)(one < 0 ? -one : one);
    }
    for (int r = 0; r < n; r++)
        total += size[r];
    if (floats)
        e = total < SUM_MAX ? total : SUM_MAX;
    else
        e = (uint32_t)whole((float)total * (scale * 0x1p16f), SUM_MAX);
    if (e > l->range->error_max)
        l->range->error_max = e;
    top_k(size, n, k_of(e, l->range->error_max, settings->lmin, settings->lmax, n));
    for (int i = 0; i < n_out(&l->g); i++)
        if (!size[i % n]) {
            if (floats)
                errors[i] = 0.0f;
            else
                codes[i] = (uint8_t)zero;
        }
}

/* The scale of errors that layer l receives, which reach from low to high. Errors of a pool's
 * output have their range from the layer with weights before it, those of the logits, which have no
 * ReLU, always the same one. */
static float error_scale(const layer_t *l, float low, float high, int32_t *zero,
                         const settings_t *settings) {
    while (!is_linear(&l->g))
        l--;
    if (settings->moving_errors && l->g.relu) {
        l->range->low = follow(l->range->low, low);
        l->range->high = follow(l->range->high, high);
    }
    return scale_of(l->range->low, l->range->high, zero);
}

/* Bytes in the place of floats, the errors of layer l. */
static float quantize(const layer_t *l, int32_t *zero, const settings_t *settings) {
    const float *errors = l->errors;
    uint8_t *codes = l->errors;
    float low = 0.0f, high = 0.0f;
    int n = n_out(&l->g);
    for (int i = 0; i < n; i++) {
        low = errors[i] < low ? errors[i] : low;
        high = errors[i] > high ? errors[i] : high;
    }
    float scale = error_scale(l, low, high, zero, settings);
    for (int i = 0; i < n; i++)
        codes[i] = code(errors[i] / scale + 0.5f, *zero);
    return scale;
}

/* Bytes in the place of sums of 32 bits, the errors of layer l's input; `scale` is that of its
 * output's errors. */
static float narrow(const layer_t *l, float scale, int32_t *zero, const settings_t *settings) {
    const int32_t *sums = l->behind;
    const uint8_t *x = l->input;
    uint8_t *codes = l->behind;
    int32_t low = 0, high = 0;
    int n = n_in(&l->g);
    for (int i = 0; i < n; i++) {
        int32_t sum = x[i] ? sums[i] : 0;
        low = sum < low ? sum : low;
        high = sum > high ? sum : high;
    }
    float before = l->range->scale * scale;
    scale = error_scale(l - 1, (float)low * before, (float)high * before, zero, settings);
    float ratio = before / scale, half = settings->floor_errors ? 0.0f : 0.5f;
    for (int i = 0; i < n; i++)
        codes[i] = x[i] ? code((float)sums[i] * ratio + half, *zero) : (uint8_t)*zero;
    return scale;
}

static void backward(const network_t *net, const float *scales, const settings_t *settings) {
    float scale = 0.0f;
    int32_t zero = 0;
    for (int n = net->n_layers - 1; n >= net->first; n--) {
        const layer_t *l = &net->layers[n];
        int floats = n >= net->floats, back = n > net->first;
        if (n == net->floats - 1)
            scale = quantize(l, &zero, settings);
        if (!is_linear(&l->g)) {
            if (floats)
                backward_pool_floats(&l->g, l->input, l->errors, 0.0f, l->behind);
            else
                backward_pool_bytes(&l->g, l->input, l->errors, (uint8_t)zero, l->behind);
            if (l->g.kind == AVERAGE_POOL)
                scale /= (float)l->g.columns;
            continue;
        }
        choose(net, l, floats, scale, zero, settings);
        if (floats) {
            backward_floats(l, back);
        } else {
            backward_bytes(l, scales[n], scale, zero, back, net->row);
            if (back)
                scale = narrow(l, scale, &zero, settings);
        }
    }
}

int train_step(const network_t *net, int label, const settings_t *settings) {
    float scales[net->n_layers];
    forward(net, scales, 1);
    int32_t loss = head_errors(net->logits, classes(net), label);
    backward(net, scales, settings);
    if (++*net->samples % settings->batch == 0)
        for (int n = net->first; n < net->n_layers; n++)
            if (net->layers[n].gradients)
                learn(&net->layers[n], n >= net->floats, settings);
    return loss;
}

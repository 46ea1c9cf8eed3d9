/* SPDX-License-Identifier: Apache-2.0
 * From pixels to logits. */
#include <stddef.h>

#include "kernels.h"
#include "passes.h"

enum {
    INPUT_FRAC = 7, FEATURE_MAX = 127, MEAN_FRAC = 8, MEAN_SHIFT = 7, RANGE_SHIFT = 4
};

static int32_t aligned(int32_t bias, int frac) {
    return frac >= BIAS_FRAC ? (int32_t)((uint32_t)bias << (frac - BIAS_FRAC))
                             : bias >> (BIAS_FRAC - frac);
}

/* What a kernel sees at a position, 0 where it is padding: the n-th of two such rows. */
static int16_t *unfold(const network_t *net, const layer_t *l, int position, int n) {
    int16_t *to = (int16_t *)net->row + n * l->g.columns;
    pieces_t p;
    pieces_of(&l->g, position, &p);
    if (p.count * p.length != l->g.columns)
        memset(to, 0, l->g.columns * sizeof *to);
    for (int k = 0; k < p.count; k++) {
        const int8_t *x = l->input + input_of(&p, k);
        int16_t *y = to + column_of(&p, k);
        for (int i = 0; i < p.length; i++)
            y[i] = x[i];
    }
    return to;
}

static int32_t sum_by_channel(const layer_t *l, const pieces_t *p, int r) {
    weights_t w = weights_of(l, r);
    int32_t sum = 0;
    for (int k = 0; k < p->count; k++) {
        const int8_t *x = l->input + input_of(p, k) + r;
        for (int i = 0; i < p->length; i++)
            sum += x[i * l->g.c] * weight(w, column_of(p, k) + i);
    }
    return sum;
}

/* The mean of n terms, by a multiplication with a rounded reciprocal. */
static int32_t mean(int32_t total, int reciprocal) {
    return (int32_t)(((int64_t)total * reciprocal + 32768) >> 16);
}

#define VALUE int8_t
#define SUM int32_t
#define MEAN(sum, g) mean(sum, (g)->reciprocal)
#define POOL(name) name
#include "pool.h"

/* The next sample's output format: the largest output keeps within 3/8 to all of its range. */
static void follow(range_t *range, int32_t peak) {
    range->peak += ((clip(peak, 0, 1 << 16) << 8) - range->peak) >> RANGE_SHIFT;
    if (range->peak > (FEATURE_MAX + 1) << 8) {
        range->out_frac--;
        range->peak >>= 1;
    } else if (range->peak < 48 << 8 && range->peak) {
        range->out_frac++;
        range->peak <<= 1;
    }
}

/* How sums become outputs. */
typedef struct {
    int frac, shift;
    int32_t peak;               /* the largest output so far */
} output_t;

static void deliver(const network_t *net, const layer_t *l, output_t *out, int position, int r,
                    int32_t sum) {
    sum += aligned(l->biases[r], out->frac);
    if (!l->g.relu) {
        net->logits[r] = sum;
        return;
    }
    sum = rnd(sum, out->shift);
    out->peak = sum > out->peak ? sum : out->peak;
    l->output[position * l->g.rows + r] = (int8_t)clip(sum, 0, FEATURE_MAX);
}

/* Returns the fraction bits of the outputs. */
static int forward_linear(const network_t *net, const layer_t *l, int frac, int training) {
    int out_frac = l->range->out_frac, n = positions(&l->g), columns = l->g.columns, position = 0;
    frac += l->range->weight_frac;
    output_t out = {frac, frac - out_frac, 0};
    for (; l->g.kind == DEPTHWISE && position < n; position++) {
        pieces_t p;
        pieces_of(&l->g, position, &p);
        for (int r = 0; r < l->g.rows; r++)
            deliver(net, l, &out, position, r, sum_by_channel(l, &p, r));
    }
    for (; position + 2 <= n; position += 2) {
        const int16_t *x = unfold(net, l, position, 0), *y = unfold(net, l, position + 1, 1);
        for (int r = 0; r < l->g.rows; r++) {
            int32_t sums[2];
            dot2(x, y, weights_of(l, r), columns, sums);
            deliver(net, l, &out, position, r, sums[0]);
            deliver(net, l, &out, position + 1, r, sums[1]);
        }
    }
    if (position < n) {
        const int16_t *x = unfold(net, l, position, 0);
        for (int r = 0; r < l->g.rows; r++)
            deliver(net, l, &out, position, r, dot(x, weights_of(l, r), columns));
    }
    if (!l->g.relu)
        return frac;
    if (training && l->g.trainable)
        follow(l->range, out.peak);
    return out_frac;
}

void enter(const network_t *net, const uint8_t *pixels, int training) {
    int8_t *x = net->layers[0].input;
    int n = n_in(&net->layers[0].g);
    for (int i = 0; i < n; i++) {
        int32_t pixel = pixels[i], mean = 0;
        if (net->means) {
            mean = net->means[i] >> MEAN_FRAC;
            if (training)
                net->means[i] = (uint16_t)(net->means[i] +
                                           (((pixel << MEAN_FRAC) - net->means[i]) >> MEAN_SHIFT));
        }
        x[i] = (int8_t)clip((pixel - mean + 1) >> 1, INT8_MIN, FEATURE_MAX);
    }
}

int forward(const network_t *net, int training) {
    int frac = INPUT_FRAC;
    for (int n = 0; n < net->n_layers; n++) {
        const layer_t *l = &net->layers[n];
        net->fracs[n] = (int8_t)frac;
        if (is_linear(&l->g))
            frac = forward_linear(net, l, frac, training);
        else
            forward_pool(&l->g, l->input, l->output);
    }
    return frac;
}

int predict(const network_t *net) {
    int best = 0;
    forward(net, 0);
    for (int c = 1; c < classes(net); c++)
        if (net->logits[c] > net->logits[best])
            best = c;
    return best;
}

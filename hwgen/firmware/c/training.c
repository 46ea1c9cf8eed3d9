/* SPDX-License-Identifier: Apache-2.0 */
#include "training.h"

#include <stddef.h>

#include "kernels.h"
#include "loss.h"
#include "partial_updates.h"

enum {
    INPUT_FRAC = 7, FEATURE_MAX = 127, ERROR_FRAC = 8, BIAS_FRAC = 16, LOGIT_FRAC = 4,
    BIAS_MAX = (1 << 26) - 1, MEAN_FRAC = 8, MEAN_SHIFT = 7, RANGE_SHIFT = 4, RANGE_PERIOD = 256,
    D_MAX = 255
};

/* ---- forward ---- */

static int32_t aligned(int32_t bias, int frac) {
    return frac >= BIAS_FRAC ? (int32_t)((uint32_t)bias << (frac - BIAS_FRAC))
                             : bias >> (BIAS_FRAC - frac);
}

static int32_t sum_of(const layer_t *l, const pieces_t *p, int r) {
    int32_t sum = 0;
    for (int k = 0; k < p->count; k++) {
        const int8_t *x = l->input + p->at[k].input;
        int column = r * l->g.columns + p->at[k].column;
        if (l->g.kind == DEPTHWISE) {
            for (int i = 0; i < p->length; i++)
                sum += x[i * l->g.c + r] *
                       (l->g.trainable ? l->masters[column + i] >> RESIDUAL_BITS
                                       : l->weights[column + i]);
        } else if (l->g.trainable) {
            sum += dot_masters(x, l->masters + column, p->length);
        } else {
            sum += dot_bytes(x, l->weights + column, p->length);
        }
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
#define SHARE(e, g) (e)
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

/* Returns the fraction bits of the outputs. */
static int forward_linear(const layer_t *l, int frac, int32_t *logits, int training) {
    int8_t *y = l->output;
    int32_t peak = 0;
    frac += l->range->weight_frac;
    int shift = frac - l->range->out_frac, out_frac = l->range->out_frac;
    for (int position = 0; position < positions(&l->g); position++) {
        pieces_t p;
        pieces_of(&l->g, position, &p);
        for (int r = 0; r < l->g.rows; r++) {
            int32_t acc = sum_of(l, &p, r) + aligned(l->biases[r], frac);
            if (!l->g.relu) {
                logits[r] = acc;
                continue;
            }
            acc = rnd(acc, shift);
            peak = acc > peak ? acc : peak;
            *y++ = (int8_t)clip(acc, 0, FEATURE_MAX);
        }
    }
    if (!l->g.relu)
        return frac;
    if (training && l->g.trainable)
        follow(l->range, peak);
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

/* Returns the fraction bits of the logits, and in `fracs` those of each layer's input. */
static int forward(const network_t *net, int8_t *fracs, int training) {
    int frac = INPUT_FRAC;
    for (int n = 0; n < net->n_layers; n++) {
        const layer_t *l = &net->layers[n];
        if (fracs)
            fracs[n] = (int8_t)frac;
        if (is_linear(&l->g))
            frac = forward_linear(l, frac, net->logits, training);
        else
            forward_pool(&l->g, l->input, l->output);
    }
    return frac;
}

static int classes(const network_t *net) { return net->layers[net->n_layers - 1].g.rows; }

int predict(const network_t *net) {
    int best = 0;
    forward(net, NULL, 0);
    for (int c = 1; c < classes(net); c++)
        if (net->logits[c] > net->logits[best])
            best = c;
    return best;
}

/* ---- loss: softmax to the base 2 ---- */

static const uint16_t EXP_TABLE[16] = {
    4096, 3922, 3756, 3596, 3444, 3298, 3158, 3024, 2896, 2773, 2655, 2543, 2435, 2332, 2233, 2138};

/* floor(2**12 * 2**(-d/16)) */
static int32_t exp2_negative(int d) { return EXP_TABLE[d & 15] >> (d >> 4); }

/* The errors of the logits in place of them, in 1/256; returns the loss in 1/256 bit. */
static int32_t head_errors(const network_t *net, int frac, int label) {
    int32_t *l = net->logits, most = INT32_MIN, sum = 0;
    int n = classes(net);
    for (int c = 0; c < n; c++) {
        l[c] = clip(rnd(l[c], frac - LOGIT_FRAC), -2048, 2047);
        most = l[c] > most ? l[c] : most;
    }
    for (int c = 0; c < n; c++) {
        l[c] = most - l[c];
        sum += exp2_negative(l[c] < D_MAX ? l[c] : D_MAX);
    }
    int32_t log_sum = ilog2(sum) - (EXP_FRAC << 8);
    int32_t loss = (l[label] << 4) + log_sum;
    for (int c = 0; c < n; c++) {
        int32_t d = (l[c] < D_MAX ? l[c] : D_MAX) + ((log_sum + 8) >> 4);
        l[c] = (exp2_negative(d < D_MAX ? d : D_MAX) >> 4) - (c == label ? 256 : 0);
    }
    return loss < LOSS_MAX ? loss : LOSS_MAX;
}

/* ---- backward ---- */

static uint32_t magnitude(int32_t x) { return (uint32_t)(x < 0 ? -x : x); }

/* Errors as bytes, the largest with 7 bits. `to` may be `from`: bytes never overtake words.
 * Returns how many bits they lost, or -1 where all are 0. */
static int normalize(int8_t *to, const int32_t *from, int n) {
    uint32_t largest = 0;
    for (int i = 0; i < n; i++) {
        uint32_t m = magnitude(from[i]);
        largest = m > largest ? m : largest;
    }
    int shift = bit_length(largest) - 7;
    shift = shift < 0 ? 0 : shift;
    for (int i = 0; i < n; i++)
        to[i] = (int8_t)clip(rnd(from[i], shift), -127, 127);
    return largest ? shift : -1;
}

/* Keeps the errors of the structures that learn from this sample; the others become 0. */
static void choose(const network_t *net, const layer_t *l, int frac, const settings_t *settings) {
    uint32_t *size = net->magnitudes, total = 0;
    int n = l->g.rows;
    if (settings->lmin >= FRACTION_ONE)
        return;
    memset(size, 0, (size_t)n * sizeof *size);
    for (int position = 0; position < positions(&l->g); position++)
        for (int r = 0; r < n; r++)
            size[r] += magnitude(l->errors[position * n + r]);
    for (int r = 0; r < n; r++)
        total += size[r];
    int shift = frac - SUM_FRAC;
    uint64_t e = shift <= 0 ? (uint64_t)total << -shift : ((total >> (shift - 1)) + 1) >> 1;
    e = e < SUM_MAX ? e : SUM_MAX;
    if (e > l->range->error_max)
        l->range->error_max = (uint32_t)e;
    top_k(size, n, k_of((uint32_t)e, l->range->error_max, n, settings->lmin, settings->lmax));
    for (int r = 0; r < n; r++)
        for (int position = 0; !size[r] && position < positions(&l->g); position++)
            l->errors[position * n + r] = 0;
}

/* Errors of the input that come through row r. */
static void back_through(const layer_t *l, const pieces_t *p, int r, int32_t e) {
    for (int k = 0; k < p->count; k++) {
        int32_t *behind = l->behind + p->at[k].input;
        int column = r * l->g.columns + p->at[k].column;
        if (l->g.kind == DEPTHWISE) {
            for (int i = 0; i < p->length; i++)
                behind[i * l->g.c + r] += e * (l->g.trainable ? l->masters[column + i] >> RESIDUAL_BITS
                                                          : l->weights[column + i]);
        } else if (l->g.trainable) {
            add_masters(behind, l->masters + column, e, p->length);
        } else {
            add_bytes(behind, l->weights + column, e, p->length);
        }
    }
}

static void add_gradient(const layer_t *l, const pieces_t *p, int r, int32_t e, int32_t *row) {
    for (int k = 0; k < p->count; k++) {
        const int8_t *x = l->input + p->at[k].input;
        int32_t *g = row + p->at[k].column;
        if (l->g.kind == DEPTHWISE)
            for (int i = 0; i < p->length; i++)
                g[i] += e * x[i * l->g.c + r];
        else
            add_inputs(g, x, e, p->length);
    }
}

/* The row less its mean; returns the whole bits of its mean magnitude. */
static int standardized(const layer_t *l, int32_t *row) {
    int64_t sum = 0, size = 0;
    for (int i = 0; i < l->g.columns; i++)
        sum += row[i];
    int32_t middle = (int32_t)((sum * l->g.reciprocal + 32768) >> 16);
    for (int i = 0; i < l->g.columns; i++) {
        row[i] -= middle;
        size += magnitude(row[i]);
    }
    int bits = bit_length((uint32_t)((size * l->g.reciprocal + 32768) >> 16)) - 1;
    return bits < 0 ? 0 : bits;
}

/* One walk over the rows: errors go back through a row before it changes. */
static void backward_linear(const network_t *net, const layer_t *l, int frac, int x_frac,
                            int lr_shift, int standardize) {
    int back = l != &net->layers[net->first];
    int bits = l->range->weight_frac + RESIDUAL_BITS;
    int shift = frac + x_frac + lr_shift - bits;
    /* One position and no scaling by row: the row's gradient need not be written down. */
    int outer = l->g.kind == DENSE && !standardize;
    shift = shift < 0 ? 0 : shift;
    if (back)
        memset(l->behind, 0, (size_t)n_in(&l->g) * sizeof *l->behind);
    for (int r = 0; r < l->g.rows; r++) {
        int16_t *m = l->masters + r * l->g.columns;
        int32_t total = 0;
        if (l->g.trainable && !outer)
            memset(net->row, 0, l->g.columns * sizeof *net->row);
        for (int position = 0; position < positions(&l->g); position++) {
            int32_t e = l->errors[position * l->g.rows + r];
            pieces_t p;
            if (!e)
                continue;
            total += e;
            if (outer) {
                if (back && l->g.trainable)
                    add_masters(l->behind, m, e, l->g.columns);
                else if (back)
                    add_bytes(l->behind, l->weights + r * l->g.columns, e, l->g.columns);
                if (l->g.trainable && shift < 16)
                    step_inputs(m, l->input, e * (1 << (16 - shift)), l->g.columns);
                continue;
            }
            pieces_of(&l->g, position, &p);
            if (back)
                back_through(l, &p, r, e);
            if (l->g.trainable)
                add_gradient(l, &p, r, e, net->row);
        }
        if (!l->g.trainable)
            continue;
        if (!outer)
            step_gradient(m, net->row, standardize ? standardized(l, net->row) + lr_shift - bits
                                                   : shift, l->g.columns);
        l->biases[r] = clip(l->biases[r] - rnd(total, frac + lr_shift - BIAS_FRAC),
                            -BIAS_MAX, BIAS_MAX);
    }
}

static void backward(const network_t *net, const int8_t *fracs, int lr_shift,
                     const settings_t *settings) {
    int n = net->n_layers - 1, frac = ERROR_FRAC;
    int lost = normalize(net->layers[n].errors, net->logits, classes(net));
    for (; lost >= 0; n--) {
        const layer_t *l = &net->layers[n];
        if (!is_linear(&l->g)) {
            backward_pool(&l->g, l->input, l->errors, 0, (int8_t *)l->behind);
            if (l->g.kind == AVERAGE_POOL)
                frac += bit_length(l->g.columns) - 1;
            continue;
        }
        frac -= lost;
        choose(net, l, frac, settings);
        backward_linear(net, l, frac, fracs[n], lr_shift, settings->standardize);
        if (n == net->first)
            return;
        frac += l->range->weight_frac;
        for (int i = 0; i < n_in(&l->g); i++)
            if (!l->input[i])
                l->behind[i] = 0;
        lost = normalize((int8_t *)l->behind, l->behind, n_in(&l->g));
    }
}

/* The weights' format: their largest master keeps within 1/4 to 3/4 of its range. */
static void widen(const layer_t *l) {
    int32_t peak = 0;
    int n = l->g.rows * l->g.columns;
    for (int i = 0; i < n; i++) {
        int32_t m = l->masters[i] ^ (l->masters[i] >> 15);
        peak = m > peak ? m : peak;
    }
    if (peak >= 3 << 13) {
        for (int i = 0; i < n; i++)
            l->masters[i] >>= 1;
        l->range->weight_frac--;
    } else if (peak < 1 << 13) {
        for (int i = 0; i < n; i++)
            l->masters[i] = (int16_t)(l->masters[i] * 2);
        l->range->weight_frac++;
    }
}

int train_step(const network_t *net, int label, const settings_t *settings) {
    int8_t fracs[net->n_layers];
    int32_t loss = head_errors(net, forward(net, fracs, 1), label);
    if (loss >= settings->skip) {
        uint32_t decayed = settings->lr_decay ? *net->samples / settings->lr_decay : 0;
        backward(net, fracs, settings->lr_shift + (int)decayed, settings);
    }
    if (++*net->samples % RANGE_PERIOD == 0)
        for (int n = net->first; n < net->n_layers; n++)
            if (net->layers[n].g.trainable)
                widen(&net->layers[n]);
    return loss;
}

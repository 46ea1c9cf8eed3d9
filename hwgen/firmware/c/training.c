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

static weights_t weights_of(const layer_t *l, int r) {
    int at = r * l->g.columns;
    return l->g.trainable ? (weights_t){l->masters + at, NULL} : (weights_t){NULL, l->weights + at};
}

/* What a kernel sees at a position, 0 where it is padding: the n-th of two such rows. */
static int16_t *unfold(const network_t *net, const layer_t *l, int position, int n) {
    int16_t *to = (int16_t *)net->row + n * l->g.columns;
    pieces_t p;
    pieces_of(&l->g, position, &p);
    if (p.count * p.length != l->g.columns)
        memset(to, 0, l->g.columns * sizeof *to);
    for (int k = 0; k < p.count; k++) {
        const int8_t *x = l->input + p.at[k].input;
        int16_t *y = to + p.at[k].column;
        for (int i = 0; i < p.length; i++)
            y[i] = x[i];
    }
    return to;
}

static int32_t sum_by_channel(const layer_t *l, const pieces_t *p, int r) {
    weights_t w = weights_of(l, r);
    int32_t sum = 0;
    for (int k = 0; k < p->count; k++) {
        const int8_t *x = l->input + p->at[k].input + r;
        for (int i = 0; i < p->length; i++)
            sum += x[i * l->g.c] * weight(w, p->at[k].column + i);
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

/* Returns the fraction bits of the logits. */
static int forward(const network_t *net, int training) {
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

static int classes(const network_t *net) { return net->layers[net->n_layers - 1].g.rows; }

int predict(const network_t *net) {
    int best = 0;
    forward(net, 0);
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
    uint32_t bits = 0;
    for (int i = 0; i < n; i++)         /* as long as the largest of them */
        bits |= magnitude(from[i]);
    int shift = bit_length(bits) - 7;
    if (shift <= 0) {
        for (int i = 0; i < n; i++)
            to[i] = (int8_t)from[i];
        return bits ? 0 : -1;
    }
    for (int i = 0; i < n; i++) {
        int32_t e = ((from[i] >> (shift - 1)) + 1) >> 1;
        to[i] = (int8_t)(e > 127 ? 127 : e < -127 ? -127 : e);
    }
    return shift;
}

/* Keeps the errors of the structures of l that learn from this sample; the others become 0. They
 * are those of what l delivers, n in all, maybe behind a pool. */
static void choose(const network_t *net, const layer_t *l, int8_t *errors, int n, int frac,
                   const settings_t *settings) {
    uint32_t *size = net->magnitudes, total = 0;
    int rows = l->g.rows, shift = frac - SUM_FRAC;
    if (settings->lmin >= FRACTION_ONE)
        return;
    memset(size, 0, (size_t)rows * sizeof *size);
    for (const int8_t *e = errors; e < errors + n; e += rows)
        for (int r = 0; r < rows; r++)
            size[r] += magnitude(e[r]);
    for (int r = 0; r < rows; r++)
        total += size[r];
    uint64_t sum = shift <= 0 ? (uint64_t)total << -shift : ((total >> (shift - 1)) + 1) >> 1;
    sum = sum < SUM_MAX ? sum : SUM_MAX;
    if (sum > l->range->error_max)
        l->range->error_max = (uint32_t)sum;
    top_k(size, rows, k_of((uint32_t)sum, l->range->error_max, rows, settings->lmin,
                           settings->lmax));
    for (int r = 0; r < rows; r++)
        for (int i = r; !size[r] && i < n; i += rows)
            errors[i] = 0;
}

/* Errors of the input that come through row r. */
static void back_through(const layer_t *l, const pieces_t *p, int r, int32_t e) {
    for (int k = 0; k < p->count; k++) {
        int32_t *behind = l->behind + p->at[k].input;
        weights_t w = weights_of(l, r);
        if (l->g.kind == DEPTHWISE) {
            for (int i = 0; i < p->length; i++)
                behind[i * l->g.c + r] += e * weight(w, p->at[k].column + i);
            continue;
        }
        add_weights(behind, from(w, p->at[k].column), e, p->length);
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

/* What a row's errors do: they go back through its weights, and add up to its gradient. Returns
 * their sum; *any tells whether there was one. */
static int32_t walk(const network_t *net, const layer_t *l, int r, int back, int *any) {
    const int8_t *e = l->errors + r;
    int32_t total = 0;
    int n = positions(&l->g), rows = l->g.rows;
    *any = 0;
    for (int position = 0; position < n; position++, e += rows) {
        pieces_t p;
        if (!*e)
            continue;
        if (!*any && l->g.trainable)
            memset(net->row, 0, l->g.columns * sizeof *net->row);
        *any = 1;
        total += *e;
        pieces_of(&l->g, position, &p);
        if (back)
            back_through(l, &p, r, *e);
        if (l->g.trainable)
            add_gradient(l, &p, r, *e, net->row);
    }
    return total;
}

/* Errors go back through each row before it changes. Rows that were not chosen have none; NULL:
 * all were. */
static void backward_linear(const network_t *net, const layer_t *l, const uint32_t *chosen,
                            int frac, int x_frac, int lr_shift, int standardize) {
    int back = l != &net->layers[net->first];
    int bits = l->range->weight_frac + RESIDUAL_BITS, columns = l->g.columns;
    int shift = frac + x_frac + lr_shift - bits;
    /* One position and no scaling by row: the row's gradient need not be written down. */
    int outer = l->g.kind == DENSE && !standardize;
    shift = shift < 0 ? 0 : shift;
    if (back)
        memset(l->behind, 0, (size_t)n_in(&l->g) * sizeof *l->behind);
    for (int r = 0; r < l->g.rows; r++) {
        int16_t *m = l->masters + r * columns;
        int32_t total = outer ? l->errors[r] : 0;
        int any = total != 0;
        if (chosen && !chosen[r])
            continue;
        if (!outer)
            total = walk(net, l, r, back, &any);
        else if (any && back)
            add_weights(l->behind, weights_of(l, r), total, columns);
        if (!any || !l->g.trainable)
            continue;
        if (!outer)
            step_gradient(m, net->row, standardize ? standardized(l, net->row) + lr_shift - bits
                                                   : shift, columns);
        else if (shift < 16)
            step_inputs(m, l->input, total * (1 << (16 - shift)), columns);
        l->biases[r] = clip(l->biases[r] - rnd(total, frac + lr_shift - BIAS_FRAC),
                            -BIAS_MAX, BIAS_MAX);
    }
}

/* The layer with weights whose outputs, pooled or not, are the input of layer n. */
static const layer_t *before(const network_t *net, int n) {
    do
        n--;
    while (!is_linear(&net->layers[n].g));
    return &net->layers[n];
}

static void backward(const network_t *net, int lr_shift, const settings_t *settings) {
    int n = net->n_layers - 1, frac = ERROR_FRAC, size = classes(net);
    const layer_t *l = &net->layers[n];
    int8_t *errors = l->errors;
    int lost = normalize(errors, net->logits, size);
    while (lost >= 0) {
        frac -= lost;
        choose(net, l, errors, size, frac, settings);
        for (l = &net->layers[n]; !is_linear(&l->g); l = &net->layers[--n]) {
            backward_pool(&l->g, l->input, l->errors, 0, (int8_t *)l->behind);
            if (l->g.kind == AVERAGE_POOL)
                frac += bit_length(l->g.columns) - 1;
        }
        backward_linear(net, l, settings->lmin < FRACTION_ONE ? net->magnitudes : NULL, frac,
                        net->fracs[n], lr_shift, settings->standardize);
        if (n == net->first)
            return;
        frac += l->range->weight_frac;
        size = n_in(&l->g);
        for (int i = 0; i < size; i++)
            if (l->input[i] <= 0)
                l->behind[i] = 0;
        errors = (int8_t *)l->behind;
        lost = normalize(errors, l->behind, size);
        l = before(net, n--);
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
    int32_t loss = head_errors(net, forward(net, 1), label);
    if (loss >= settings->skip) {
        uint32_t decayed = settings->lr_decay ? *net->samples / settings->lr_decay : 0;
        backward(net, settings->lr_shift + (int)decayed, settings);
    }
    if (++*net->samples % RANGE_PERIOD == 0)
        for (int n = net->first; n < net->n_layers; n++)
            if (net->layers[n].g.trainable)
                widen(&net->layers[n]);
    return loss;
}

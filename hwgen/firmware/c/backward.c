/* SPDX-License-Identifier: Apache-2.0
 * Errors on their way back. Those that reach a layer stay sums of 32 bits: they are read as bytes
 * where they are needed, which with partial updates is in few of its rows. */
#include <stddef.h>

#include "kernels.h"
#include "partial_updates.h"
#include "passes.h"

enum { BIAS_MAX = (1 << 26) - 1 };

static uint32_t magnitude(int32_t x) { return (uint32_t)(x < 0 ? -x : x); }

/* Errors of a row become 0 where their input is off. Returns the sum of their magnitudes, and adds
 * to `bits`, which gets as long as the largest of them. */
static uint64_t arrive_row(int32_t *errors, const int8_t *x, int n, int rows, uint32_t *bits) {
    uint64_t sum = 0;
    uint32_t found = 0;
    for (int i = 0; i < n; i += rows) {
        if (x[i] <= 0) {
            errors[i] = 0;
        } else {
            uint32_t one = magnitude(errors[i]);
            found |= one;
            sum += one;
        }
    }
    *bits |= found;
    return sum;
}

/* How many bits errors lose as bytes, the largest with `error_bits`; -1 where all are 0. */
static int lost_of(uint32_t bits, int error_bits) {
    int lost = bit_length(bits) - error_bits;
    return lost > 0 ? lost : bits ? 0 : -1;
}

/* The errors [n] of what is behind l's input. Leaves each row's sum of magnitudes, 64 bits, in
 * `sums`; returns how many bits they lose. */
static int arrive(const layer_t *l, int rows, uint32_t *sums, int error_bits) {
    uint32_t bits = 0;
    int n = n_in(&l->g);
    for (int r = 0; r < rows; r++) {
        uint64_t sum = arrive_row(l->behind + r, l->input + r, n - r, rows, &bits);
        *sums++ = (uint32_t)sum;
        *sums++ = (uint32_t)(sum >> 32);
    }
    return lost_of(bits, error_bits);
}

static inline int32_t byte_of(int32_t e, int lost) {
    return clip((e + (1 << lost >> 1)) >> lost, -127, 127);
}

/* Marks the rows of l that learn from this sample, 1 or 0, in place of their sums of errors. */
static void choose(const layer_t *l, uint32_t *sums, int lost, int frac,
                   const settings_t *settings) {
    int rows = l->g.rows, shift = frac - SUM_FRAC;
    uint64_t total = 0;
    for (int r = 0; r < rows; r++) {
        sums[r] = (uint32_t)((sums[2 * r] | (uint64_t)sums[2 * r + 1] << 32) >> lost);
        total += sums[r];
    }
    total = shift <= 0 ? total << -shift : ((total >> (shift - 1)) + 1) >> 1;
    uint32_t sum = total < SUM_MAX ? (uint32_t)total : SUM_MAX;
    if (sum > l->range->error_max)
        l->range->error_max = sum;
    top_k(sums, rows, k_of(sum, l->range->error_max, settings->lmin, settings->lmax, rows));
}

/* Of one row: what its errors add to, and what they were. */
typedef struct {
    int r, any;
    int32_t total;
    int32_t *gradient;          /* NULL: the row does not train */
    int32_t *behind;            /* NULL: nothing before it trains */
} row_t;

/* An error at a position of the row's output goes back through its weights, and into its
 * gradient. */
static void add_error(const layer_t *l, row_t *row, int position, int32_t e) {
    weights_t w = weights_of(l, row->r);
    pieces_t p;
    pieces_of(&l->g, position, &p);
    if (!row->any && row->gradient)
        memset(row->gradient, 0, l->g.columns * sizeof *row->gradient);
    row->any = 1;
    row->total += e;
    if (l->g.kind == DEPTHWISE) {
        p.input += row->r;
        for (int k = 0; k < p.count; k++)
            for (int i = 0; i < p.length; i++) {
                int at = input_of(&p, k) + i * l->g.c, column = column_of(&p, k) + i;
                if (row->behind)
                    row->behind[at] += e * weight(w, column);
                if (row->gradient)
                    row->gradient[column] += e * l->input[at];
            }
        return;
    }
    for (int k = 0; row->behind && k < p.count; k++)
        add_weights(row->behind + input_of(&p, k), from(w, column_of(&p, k)), e, p.length);
    for (int k = 0; row->gradient && k < p.count; k++)
        add_inputs(row->gradient + column_of(&p, k), l->input + input_of(&p, k), e, p.length);
}

/* An error at a position of l's output goes back through pools, which have no padding, to the row
 * before them. */
static void back_through(const layer_t *l, row_t *row, int position, int32_t e) {
    for (; !is_linear(&l->g); l--) {
        const geometry_t *g = &l->g;
        int y = position / g->out_w, x = position - y * g->out_w;
        int pixel = y * g->stride_h * g->w + x * g->stride_w, best = pixel;
        const int8_t *input = l->input + pixel * g->c + row->r;
        int32_t most = *input;
        for (int k = 0; k < g->kernel_h; k++, pixel += g->w, input += g->w * g->c)
            for (int i = 0; i < g->kernel_w; i++) {
                int32_t value = input[i * g->c];
                if (g->kind == AVERAGE_POOL) {
                    if (value)
                        back_through(l - 1, row, pixel + i, e);
                } else if (value > most) {
                    most = value;
                    best = pixel + i;
                }
            }
        if (g->kind == AVERAGE_POOL)
            return;
        position = best;
    }
    add_error(l, row, position, e);
}

/* All errors of a row of l, found behind its pools up to `top`. */
static void walk(const layer_t *top, row_t *row, int lost) {
    const int32_t *errors = top->errors + row->r;
    int n = positions(&top->g), rows = top->g.rows;
    for (int position = 0; position < n; position++, errors += rows) {
        int32_t e = *errors ? byte_of(*errors, lost) : 0;
        if (e)
            back_through(top, row, position, e);
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

/* Errors go back through each row before it changes. `chosen` tells which rows do; NULL: all. */
static void backward_linear(const network_t *net, const layer_t *l, const layer_t *top, int lost,
                            const uint32_t *chosen, int frac, int lr_shift, int standardize) {
    int columns = l->g.columns, bits = l->range->weight_frac + RESIDUAL_BITS;
    int shift = frac + net->fracs[l - net->layers] + lr_shift - bits;
    /* One position and no scaling by row: the row's gradient need not be written down. */
    int outer = l->g.kind == DENSE && l == top && !standardize;
    row_t row = {.gradient = l->g.trainable ? net->row : NULL,
                 .behind = l != &net->layers[net->first] ? l->behind : NULL};
    shift = shift < 0 ? 0 : shift;
    if (row.behind)
        memset(row.behind, 0, (size_t)n_in(&l->g) * sizeof *row.behind);
    for (row.r = 0; row.r < l->g.rows; row.r++) {
        int16_t *m = l->masters + row.r * columns;
        if (chosen && !chosen[row.r])
            continue;
        row.any = row.total = 0;
        if (outer) {
            row.any = row.total = byte_of(l->errors[row.r], lost);
            if (row.any && row.behind)
                add_weights(row.behind, weights_of(l, row.r), row.total, columns);
        } else {
            walk(top, &row, lost);
        }
        if (!row.any || !l->g.trainable)
            continue;
        if (!outer)
            step_gradient(m, net->row, standardize ? standardized(l, net->row) + lr_shift - bits
                                                   : shift, columns);
        else if (shift < 16)
            step_inputs(m, l->input, row.total * (1 << (16 - shift)), columns);
        l->biases[row.r] = clip(l->biases[row.r] - rnd(row.total, frac + lr_shift - BIAS_FRAC),
                                -BIAS_MAX, BIAS_MAX);
    }
}

void backward(const network_t *net, int lr_shift, const settings_t *settings) {
    const layer_t *top = &net->layers[net->n_layers - 1];
    int frac = ERROR_FRAC, partial = 0;         /* of the last layer all rows learn */
    uint32_t bits = 0;
    for (int c = 0; c < classes(net); c++)
        bits |= magnitude(top->errors[c]);
    int lost = lost_of(bits, settings->error_bits);
    while (lost >= 0) {
        const layer_t *l = top;
        while (!is_linear(&l->g))
            l--;
        frac -= lost;
        if (partial)
            choose(l, net->magnitudes, lost, frac, settings);
        for (const layer_t *pool = top; pool > l; pool--)
            if (pool->g.kind == AVERAGE_POOL)
                frac += bit_length(pool->g.columns) - 1;
        backward_linear(net, l, top, lost, partial ? net->magnitudes : NULL, frac, lr_shift,
                        settings->standardize);
        if (l == &net->layers[net->first])
            return;
        frac += l->range->weight_frac;
        top = l - 1;
        partial = settings->lmin < FRACTION_ONE;
        lost = arrive(l, top->g.rows, net->magnitudes, settings->error_bits);
    }
}

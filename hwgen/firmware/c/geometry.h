/* SPDX-License-Identifier: Apache-2.0
 * Where the kernels of a layer read, whatever its arithmetic is. */
#ifndef GEOMETRY_H
#define GEOMETRY_H

#include <stdint.h>

typedef enum { DENSE, CONV, DEPTHWISE, MAX_POOL, AVERAGE_POOL } kind_t;

typedef struct {
    uint8_t kind, relu, trainable;
    uint16_t h, w, c;           /* input: rows, columns, channels */
    uint16_t out_h, out_w, rows;
    uint8_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
    uint16_t columns;           /* weights of a row */
    uint16_t reciprocal;        /* round(2**16 / columns) */
} geometry_t;

/* The pieces of the input that a kernel reads at a position, without the padding: where each
 * begins in the input and in a row of weights. A layer by channel reads every c-th value. */
typedef struct {
    int count, length;
    struct { int input, column; } at[16];
} pieces_t;

static inline int is_linear(const geometry_t *g) { return g->kind <= DEPTHWISE; }
static inline int by_channel(const geometry_t *g) { return g->kind >= DEPTHWISE; }
static inline int positions(const geometry_t *g) { return g->out_h * g->out_w; }
static inline int n_in(const geometry_t *g) { return g->h * g->w * g->c; }

/* A function of its own: a Cortex-M0+ has no registers left for it within a larger one. */
static __attribute__((noinline, unused))
void pieces_of(const geometry_t *g, int position, pieces_t *p) {
    int y = position / g->out_w * g->stride_h - g->pad_h;
    int x = position % g->out_w * g->stride_w - g->pad_w;
    int from = x < 0 ? -x : 0, to = g->kernel_w < g->w - x ? g->kernel_w : g->w - x;
    int wide = by_channel(g) ? 1 : g->c;
    p->count = 0;
    p->length = (to - from) * wide;
    for (int k = 0; k < g->kernel_h; k++) {
        if (y + k < 0 || y + k >= g->h)
            continue;
        p->at[p->count].input = ((y + k) * g->w + x + from) * g->c;
        p->at[p->count++].column = (k * g->kernel_w + from) * wide;
    }
}

#endif

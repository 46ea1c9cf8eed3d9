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

/* The pieces of the input that a kernel reads at a position, without the padding: `count` of
 * `length` values each. A layer by channel reads every c-th value from its channel on. */
typedef struct {
    int count, length;
    int pixel;                  /* the first one, in the input's rows and columns */
    int input, input_step;      /* where the first one begins in the input; on to the next */
    int column, column_step;    /* the same in a row of weights */
} pieces_t;

static inline int is_linear(const geometry_t *g) { return g->kind <= DEPTHWISE; }
static inline int by_channel(const geometry_t *g) { return g->kind >= DEPTHWISE; }
static inline int positions(const geometry_t *g) { return g->out_h * g->out_w; }
static inline int n_in(const geometry_t *g) { return g->h * g->w * g->c; }

/* A function of its own: a Cortex-M0+ has no registers left for it within a larger one. */
static __attribute__((noinline, unused))
void pieces_of(const geometry_t *g, int position, pieces_t *p) {
    int y = position / g->out_w, x = position - y * g->out_w;
    int wide = by_channel(g) ? 1 : g->c, top = 0, left = 0;
    int bottom = g->kernel_h, right = g->kernel_w;
    y = y * g->stride_h - g->pad_h;
    x = x * g->stride_w - g->pad_w;
    if (y < 0)
        top = -y;
    if (x < 0)
        left = -x;
    if (bottom > g->h - y)
        bottom = g->h - y;
    if (right > g->w - x)
        right = g->w - x;
    p->count = bottom - top;
    p->length = (right - left) * wide;
    p->pixel = (y + top) * g->w + x + left;
    p->input = p->pixel * g->c;
    p->input_step = g->w * g->c;
    p->column = (top * g->kernel_w + left) * wide;
    p->column_step = g->kernel_w * wide;
}

static inline int input_of(const pieces_t *p, int k) { return p->input + k * p->input_step; }
static inline int column_of(const pieces_t *p, int k) { return p->column + k * p->column_step; }

#endif

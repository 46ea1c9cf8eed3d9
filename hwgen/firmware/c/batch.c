/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "affine.h"
#include "paper_layers.h"

#define BIAS_MAX 0x1p30f
#define STD_MIN 0x1p-60f            /* rows whose gradients differ less do not learn */

/* The row less its mean; returns what of it a weight moves by. */
static float standardized(float *g, int n, float lr) {
    float sum = 0.0f, squares = 0.0f;
    for (int i = 0; i < n; i++)
        sum += g[i];
    float middle = sum / (float)n;
    for (int i = 0; i < n; i++) {
        g[i] -= middle;
        squares += g[i] * g[i];
    }
    float std = sqrtf(squares / (float)n);
    return std > STD_MIN ? lr / std : 0.0f;
}

/* Bytes of the weights w, in a range of their own. */
static void requantize(const layer_t *l, const float *w, int n) {
    uint8_t *q = l->weights;
    float low = 0.0f, high = 0.0f;
    for (int i = 0; i < n; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
    }
    l->range->scale = scale_of(low, high, &l->range->zero);
    for (int i = 0; i < n; i++)
        q[i] = code(w[i] / l->range->scale + 0.5f, l->range->zero);
}

void learn(const layer_t *l, int floats, const settings_t *settings) {
    int rows = l->g.rows, columns = l->g.columns;
    float *g = l->gradients, *bias_g = g + rows * columns;
    float rate = settings->lr / (float)settings->batch;
    for (int r = 0; r < rows; r++, g += columns) {
        float row_rate = settings->standardize ? standardized(g, columns, settings->lr) : rate;
        for (int i = 0; i < columns; i++) {
            int at = r * columns + i;
            float *w = (float *)l->weights + at;
            if (floats)
                *w = limited(*w - g[i] * row_rate, -LIMIT, LIMIT);
            else    /* The new weight waits in the gradient's place for its range. */
                g[i] = limited((float)(((uint8_t *)l->weights)[at] - l->range->zero) *
                               l->range->scale - g[i] * row_rate, -LIMIT, LIMIT);
        }
        if (floats) {
            float *b = (float *)l->biases + r;
            *b = limited(*b - bias_g[r] * rate, -LIMIT, LIMIT);
        } else {
            int32_t *b = (int32_t *)l->biases + r;
            int64_t moved = (int64_t)*b - whole(bias_g[r] * rate / 0x1p-16f, BIAS_MAX);
            *b = (int32_t)(moved > 1 << 30 ? 1 << 30 : moved < -(1 << 30) ? -(1 << 30) : moved);
        }
    }
    if (!floats)
        requantize(l, l->gradients, rows * columns);
    memset(l->gradients, 0, (size_t)(rows * (columns + 1)) * sizeof *l->gradients);
}

/* SPDX-License-Identifier: Apache-2.0
 * Sums of floats depend on the order of their terms; it is part of the arithmetic. */
#include <string.h>

#include "affine.h"
#include "paper_layers.h"

void forward_floats(const layer_t *l, float *logits) {
    float *y = l->g.relu ? l->output : logits;
    const float *biases = l->biases;
    int step = l->g.kind == DEPTHWISE ? l->g.c : 1;
    for (int position = 0; position < positions(&l->g); position++) {
        pieces_t p;
        pieces_of(&l->g, position, &p);
        for (int r = 0; r < l->g.rows; r++) {
            float sum = 0.0f;
            for (int k = 0; k < p.count; k++) {
                const float *x = (const float *)l->input + input_of(&p, k) + (step > 1 ? r : 0);
                const float *w = (const float *)l->weights + r * l->g.columns + column_of(&p, k);
                for (int i = 0; i < p.length; i++)
                    sum += x[i * step] * w[i];
            }
            *y++ = limited(sum + biases[r], l->g.relu ? 0.0f : -LIMIT, LIMIT);
        }
    }
}

void backward_floats(const layer_t *l, int back) {
    const float *errors = l->errors;
    const float *input = l->input;
    float *behind = l->behind;
    int rows = l->g.rows, columns = l->g.columns, step = l->g.kind == DEPTHWISE ? l->g.c : 1;
    if (back)
        memset(behind, 0, (size_t)n_in(&l->g) * sizeof *behind);
    for (int position = 0; position < positions(&l->g); position++) {
        pieces_t p;
        pieces_of(&l->g, position, &p);
        for (int r = 0; r < rows; r++) {
            float e = errors[position * rows + r];
            if (e == 0.0f)
                continue;
            for (int k = 0; k < p.count; k++) {
                int at = input_of(&p, k) + (step > 1 ? r : 0);
                int column = r * columns + column_of(&p, k);
                const float *w = (const float *)l->weights + column;
                for (int i = 0; back && i < p.length; i++)
                    behind[at + i * step] += e * w[i];
                for (int i = 0; l->gradients && i < p.length; i++)
                    l->gradients[column + i] += e * input[at + i * step];
            }
            if (l->gradients)
                l->gradients[rows * columns + r] += e;
        }
    }
    for (int i = 0; back && i < n_in(&l->g); i++)
        behind[i] = input[i] > 0.0f ? limited(behind[i], -LIMIT, LIMIT) : 0.0f;
}

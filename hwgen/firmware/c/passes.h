/* SPDX-License-Identifier: Apache-2.0
 * What a training step is made of. */
#ifndef PASSES_H
#define PASSES_H

#include "kernels.h"
#include "training.h"

enum { BIAS_FRAC = 16, ERROR_FRAC = 8 };

static inline int classes(const network_t *net) { return net->layers[net->n_layers - 1].g.rows; }

static inline weights_t weights_of(const layer_t *l, int r) {
    int at = r * l->g.columns;
    return l->g.trainable ? (weights_t){l->masters + at, NULL} : (weights_t){NULL, l->weights + at};
}

/* Leaves the logits; returns their fraction bits. */
int forward(const network_t *net, int training);

/* The errors of the logits in place of them, in 2**-ERROR_FRAC; returns the loss in 1/256 bit. */
int32_t head_errors(const network_t *net, int frac, int label);

/* From those on, back to the first layer that trains: each learns as errors pass it. */
void backward(const network_t *net, int lr_shift, const settings_t *settings);

#endif

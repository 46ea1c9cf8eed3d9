/* SPDX-License-Identifier: Apache-2.0
 * What a layer does in paper.c's passes: in bytes, in floats, and after a batch. */
#ifndef PAPER_LAYERS_H
#define PAPER_LAYERS_H

#include "paper.h"

/* Outputs of inputs of a scale, logits as floats; returns the scale of the outputs. */
float forward_bytes(const layer_t *l, float scale, float *logits, int training);
void forward_floats(const layer_t *l, float *logits);

/* Gathers the gradient, its products of the scale x_scale * e_scale; the errors of the input are
 * sums of products with weights. Errors are bytes with a zero point. */
void backward_bytes(const layer_t *l, float x_scale, float e_scale, int32_t zero, int back,
                    int32_t *row);
void backward_floats(const layer_t *l, int back);

/* Changes weights and biases by the gradient of a batch, which begins anew. */
void learn(const layer_t *l, int floats, const settings_t *settings);

#endif

/* SPDX-License-Identifier: Apache-2.0
 * Softmax in float32: firmware_models/fqt/softmax.py. */
#ifndef SOFTMAX_H
#define SOFTMAX_H

#include <stdint.h>

/* The errors of n logits in place of them; returns the loss in 1/256 bit. */
int32_t head_errors(float *logits, int n, int label);

#endif

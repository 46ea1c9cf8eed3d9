/* SPDX-License-Identifier: Apache-2.0
 * Integer training: the layers of a network, and what is done with them. network.h has the
 * network's own functions. Bit for bit the arithmetic of firmware_models/fqt/integer.py. */
#ifndef TRAINING_H
#define TRAINING_H

#include <stdint.h>

#include "geometry.h"

/* What training changes beside weights and biases. */
typedef struct {
    int32_t peak;               /* running mean of the largest output, 2**-8 of a code */
    uint32_t error_max;         /* largest sum of absolute errors, 2**-16 */
    int8_t weight_frac, out_frac;
} range_t;

typedef struct {
    geometry_t g;
    int8_t *input, *output;     /* in the arena */
    int32_t *errors;            /* of the output: [positions, rows] */
    int32_t *behind;            /* of the input */
    int16_t *masters;           /* [rows, columns], where the layer trains */
    const int8_t *weights;      /* [rows, columns], where it does not */
    int32_t *biases;            /* 2**-16 */
    range_t *range;
} layer_t;

typedef struct {
    const layer_t *layers;
    int n_layers, first;        /* first: the first layer that trains */
    int32_t *logits;            /* [classes] */
    int32_t *row;               /* scratch: the largest row's gradient */
    uint32_t *magnitudes;       /* scratch: two for each row of the largest layer */
    int8_t *fracs;              /* fraction bits of each layer's input, in this pass */
    uint16_t *means;            /* of each input, 2**-8; NULL where none is taken off */
    uint32_t *samples;          /* seen so far */
} network_t;

typedef struct {
    int8_t lr_shift;            /* learning rate 2**-lr_shift */
    uint8_t standardize;
    uint16_t lmin, lmax;        /* part of a layer that learns from a sample, 1/256 */
    uint8_t error_bits;         /* of a layer's largest error, 1 to 7 */
    uint16_t skip;              /* samples with less loss, 1/256 bit, change nothing */
    uint32_t lr_decay;          /* samples after which lr_shift grows by one; 0: never */
} settings_t;

/* Makes a sample's pixels the first layer's input: less their means, halved. */
void enter(const network_t *net, const uint8_t *pixels, int training);

/* The class of the sample in the first layer's input. */
int predict(const network_t *net);

/* Learn from it; returns its loss before, in 1/256 bit. */
int train_step(const network_t *net, int label, const settings_t *settings);

#endif

/* SPDX-License-Identifier: Apache-2.0
 * Training with scales and zero points, or in float32: the layers of a network, and what is done
 * with them. network.h has the network's own functions. Bit for bit the arithmetic of
 * firmware_models/fqt/paper.py. */
#ifndef PAPER_H
#define PAPER_H

#include <stdint.h>

#include "geometry.h"

/* What training changes beside weights and biases; but for error_max of layers of bytes only. */
typedef struct {
    float scale;                /* of the weights */
    float peak;                 /* moving average of the largest output */
    float low, high;            /* range of the output's errors */
    uint32_t error_max;         /* largest sum of absolute errors, 2**-16 */
    int32_t zero;               /* of the weights */
} range_t;

/* Tensors are uint8_t, or float from the network's layer `floats` on. */
typedef struct {
    geometry_t g;
    void *input, *output;       /* in the arena */
    void *errors;               /* of the output: [positions, rows] */
    void *behind;               /* of the input; of a layer of bytes int32_t at first */
    void *weights;              /* [rows, columns] */
    void *biases;               /* int32_t in 2**-16, or float */
    float *gradients;           /* since the last update: weights, biases; NULL: does not train */
    range_t *range;
} layer_t;

typedef struct {
    const layer_t *layers;
    int n_layers, first;        /* first: the first layer that trains */
    int floats;                 /* the first layer of floats */
    float *logits;              /* [classes] */
    int32_t *row;               /* scratch: the largest row's gradient */
    uint32_t *magnitudes;       /* scratch: of the largest layer's rows */
    uint32_t *samples;          /* seen so far */
} network_t;

typedef struct {
    float lr;
    uint16_t batch;             /* samples from one update to the next, 1 or more */
    uint8_t standardize;        /* gradients by row: less their mean, by their deviation */
    uint8_t moving_errors;      /* the range of errors follows them; else it stays as it is */
    uint8_t floor_errors;       /* errors that go back are floored; else rounded half up */
    uint16_t lmin, lmax;        /* part of a layer that learns from a sample, 1/256 */
} settings_t;

/* Makes a sample's pixels the first layer's input. */
void enter(const network_t *net, const uint8_t *pixels, int training);

/* The class of the sample in the first layer's input. */
int predict(const network_t *net);

/* Learn from it; returns its loss before, in 1/256 bit. */
int train_step(const network_t *net, int label, const settings_t *settings);

#endif

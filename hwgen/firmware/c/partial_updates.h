/* SPDX-License-Identifier: Apache-2.0
 * Which of a layer's structures learn from a sample: firmware_models/partial_updates.py. */
#ifndef PARTIAL_UPDATES_H
#define PARTIAL_UPDATES_H

#include <stdint.h>

enum {
    SUM_FRAC = 16,              /* of a layer's sum of absolute errors */
    SUM_MAX = (1 << 24) - 1,
    FRACTION_ONE = 256          /* lmin, lmax: all of a layer */
};

/* How many of n structures learn; e, most <= SUM_MAX: a layer's errors, and the largest so far. */
int k_of(uint32_t e, uint32_t most, int lmin, int lmax, int n);

/* Each magnitude becomes 1 where it is one of the k largest, of equal ones the first, else 0. */
void top_k(uint32_t *magnitudes, int n, int k);

#endif

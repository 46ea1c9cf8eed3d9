/* SPDX-License-Identifier: Apache-2.0
 * The logarithm of firmware_models/loss.py. */
#ifndef LOSS_H
#define LOSS_H

#include <stdint.h>

#include "kernels.h"

enum { EXP_FRAC = 12, LOSS_MAX = (1 << 14) - 1 };

extern const uint8_t LOG_TABLE[256];    /* round(256 * log2(1 + f / 256)), 256 wrapped to 0 */

/* 256 * log2(s) for s >= 256 */
static inline int32_t ilog2(int32_t s) {
    int position = bit_length((uint32_t)s) - 1;
    return (position << 8) + LOG_TABLE[(s >> (position - 8)) & 255];
}

#endif

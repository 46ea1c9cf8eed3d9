/* SPDX-License-Identifier: Apache-2.0
 * Bytes with a scale and a zero point: firmware_models/fqt/affine.py, operation by operation. */
#ifndef AFFINE_H
#define AFFINE_H

#include <stdint.h>

#define LIMIT 0x1p20f               /* where floats saturate */

static inline float limited(float x, float low, float high) {
    return x < low ? low : x > high ? high : x;
}

/* floor(x) for |x| <= 2**30 */
static inline int32_t floored(float x) {
    int32_t n = (int32_t)x;
    return n - ((float)n > x);
}

/* x rounded half up, from -limit to limit. */
static inline int32_t whole(float x, float limit) {
    return floored(limited(x + 0.5f, -limit, limit));
}

/* The code that lies floor(steps) from the zero point. */
static inline uint8_t code(float steps, int32_t zero) {
    return (uint8_t)(floored(limited(steps, (float)-zero, (float)(255 - zero))) + zero);
}

/* A moving average, alpha = 0.1. */
static inline float follow(float average, float value) {
    return average + 0.1f * (limited(value, -LIMIT, LIMIT) - average);
}

/* The scale of a range from low <= 0 to high >= 0, and its zero point. */
static inline float scale_of(float low, float high, int32_t *zero) {
    float width = high - low, scale = (width > 0x1p-16f ? width : 0x1p-16f) / 255.0f;
    *zero = floored(limited(-low / scale, 0.0f, 255.0f));
    return scale;
}

#endif

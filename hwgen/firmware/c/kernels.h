/* SPDX-License-Identifier: Apache-2.0
 * Inner loops over contiguous values. Cores with the DSP extension take two products or two
 * masters an instruction; the others compute the same integers one by one. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stdint.h>
#include <string.h>

#define RESIDUAL_BITS 8

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#include <arm_acle.h>
#define HAS_DSP 1
#else
#define HAS_DSP 0
#endif

static inline int32_t clip(int32_t x, int32_t low, int32_t high) {
    return x < low ? low : x > high ? high : x;
}

/* x / 2**shift, rounded half up; x * 2**-shift where the shift is negative. */
static inline int32_t rnd(int32_t x, int shift) {
    if (shift <= 0)
        return (int32_t)((uint32_t)x << -shift);
    return shift > 31 ? 0 : ((x >> (shift - 1)) + 1) >> 1;
}

static inline int bit_length(uint32_t x) {
    return x ? 32 - __builtin_clz(x) : 0;
}

/* sum of x * (m >> 8): bytes with the deployed weights of 16-bit masters. */
static inline int32_t dot_masters(const int8_t *x, const int16_t *m, int n) {
    const int8_t *w = (const int8_t *)m + 1;    /* little endian: the upper byte */
    int32_t sum = 0;
    for (; n >= 4; n -= 4, x += 4, w += 8)
        sum += x[0] * w[0] + x[1] * w[2] + x[2] * w[4] + x[3] * w[6];
    for (; n; n--, x++, w += 2)
        sum += *x * *w;
    return sum;
}

/* sum of x * w: bytes with weights that do not train. */
static inline int32_t dot_bytes(const int8_t *x, const int8_t *w, int n) {
    int32_t sum = 0;
#if HAS_DSP
    for (; n >= 4; n -= 4, x += 4, w += 4) {
        uint32_t a, b;
        memcpy(&a, x, 4);
        memcpy(&b, w, 4);
        sum = __smlad(__sxtb16(a), __sxtb16(b), sum);
        sum = __smlad(__sxtb16(a >> 8 | a << 24), __sxtb16(b >> 8 | b << 24), sum);
    }
#endif
    for (; n; n--)
        sum += *x++ * *w++;
    return sum;
}

/* sum += e * (m >> 8): an error on its way back through a row of weights. */
static inline void add_masters(int32_t *sum, const int16_t *m, int32_t e, int n) {
    const int8_t *w = (const int8_t *)m + 1;
    for (; n; n--, w += 2)
        *sum++ += e * *w;
}

static inline void add_bytes(int32_t *sum, const int8_t *w, int32_t e, int n) {
    for (; n; n--)
        *sum++ += e * *w++;
}

/* g += e * x: a row's gradient. */
static inline void add_inputs(int32_t *g, const int8_t *x, int32_t e, int n) {
    for (; n; n--)
        *g++ += e * *x++;
}

static inline int16_t saturated(int32_t m) {
    return (int16_t)clip(m, INT16_MIN, INT16_MAX);
}

/* m -= rnd(e * x, 16), saturating: the outer product of a dense layer's update. */
static inline void step_inputs(int16_t *m, const int8_t *x, int32_t e, int n) {
#if HAS_DSP
    for (; n >= 2; n -= 2, x += 2, m += 2) {
        uint32_t pair;
        int32_t low = e * x[0] + 32768, high = e * x[1] + 32768;
        memcpy(&pair, m, 4);
        pair = __qsub16(pair, (uint32_t)low >> 16 | ((uint32_t)high & 0xFFFF0000u));
        memcpy(m, &pair, 4);
    }
#endif
    for (; n; n--, m++)
        *m = saturated(*m - ((e * *x++ + 32768) >> 16));
}

/* m -= rnd(g, shift), saturating: the update of a row. */
static inline void step_gradient(int16_t *m, const int32_t *g, int shift, int n) {
    for (; n; n--, m++)
        *m = saturated(*m - rnd(*g++, shift));
}

#endif

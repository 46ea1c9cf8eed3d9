/* SPDX-License-Identifier: Apache-2.0 */
#include "partial_updates.h"

int k_of(uint32_t e, uint32_t most, int lmin, int lmax, int n) {
    uint64_t num = ((uint64_t)lmin * most + (uint64_t)e * (uint64_t)(lmax - lmin)) * (uint64_t)n;
    uint64_t level = (uint64_t)most << 8;
    int k = 0;
    while (k < n && (uint64_t)(k + 1) * level <= num)
        k++;
    return k ? k : 1;
}

void top_k(uint32_t *magnitudes, int n, int k) {
    /* The k-th largest, bit by bit. */
    uint32_t least = 0, all = 0;
    int bit = 31;
    for (int r = 0; r < n; r++)
        all |= magnitudes[r];
    while (bit >= 0 && !(all >> bit))
        bit--;
    for (; bit >= 0; bit--) {
        int count = 0;
        for (int r = 0; r < n; r++)
            count += magnitudes[r] >= (least | 1u << bit);
        if (count >= k)
            least |= 1u << bit;
    }
    for (int r = 0; r < n; r++)
        k -= magnitudes[r] > least;
    for (int r = 0; r < n; r++)
        magnitudes[r] = magnitudes[r] > least || (magnitudes[r] == least && k-- > 0);
}

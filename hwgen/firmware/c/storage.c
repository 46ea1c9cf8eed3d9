/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

enum { MAGIC = 0x6E676877, PIECE = 64, ABSENT = -1, BROKEN = -2 };

typedef struct {
    uint32_t magic, layout, size;
    uint32_t sequence;          /* one more than that of the save before */
    uint32_t checksum;          /* of the four words above and the state */
} header_t;

_Static_assert(sizeof(header_t) == STORAGE_HEADER_BYTES, "the header is five words");

/* CRC-32 as in zlib, without a table: a state is saved rarely, and flash is short. */
static uint32_t crc(uint32_t c, const void *from, size_t n) {
    const uint8_t *p = from;
    c = ~c;
    while (n--) {
        c ^= *p++;
        for (int bit = 0; bit < 8; bit++)
            c = c >> 1 ^ (0xEDB88320u & -(c & 1));
    }
    return ~c;
}

static uint32_t head_crc(const header_t *h) { return crc(0, h, offsetof(header_t, checksum)); }

/* Whether a slot holds a state of this layout: 1, ABSENT, BROKEN or NET_STORAGE_FAILED. */
static int examine(const net_storage_t *storage, int slot, uint32_t layout, size_t n,
                   header_t *h) {
    uint8_t piece[PIECE];
    if (storage->read(slot, 0, h, sizeof *h))
        return NET_STORAGE_FAILED;
    if (h->magic != MAGIC || h->layout != layout || h->size != n)
        return ABSENT;
    uint32_t found = head_crc(h);
    for (size_t at = 0; at < n; at += PIECE) {
        size_t length = n - at < PIECE ? n - at : PIECE;
        if (storage->read(slot, sizeof *h + at, piece, length))
            return NET_STORAGE_FAILED;
        found = crc(found, piece, length);
    }
    return found == h->checksum ? 1 : BROKEN;
}

/* The slot with the newest whole state, or an error. */
static int newest(const net_storage_t *storage, uint32_t layout, size_t n, header_t *h) {
    header_t heads[2];
    int is[2];
    for (int slot = 0; slot < 2; slot++)
        if ((is[slot] = examine(storage, slot, layout, n, &heads[slot])) == NET_STORAGE_FAILED)
            return NET_STORAGE_FAILED;
    if (is[0] != 1 && is[1] != 1)
        return is[0] == BROKEN || is[1] == BROKEN ? NET_CORRUPT : NET_NOTHING_SAVED;
    /* Sequence numbers may wrap. */
    int slot = is[0] != 1 || (is[1] == 1 && (int32_t)(heads[1].sequence - heads[0].sequence) > 0);
    *h = heads[slot];
    return slot;
}

int storage_save(const net_storage_t *storage, uint32_t layout, const void *state, size_t n) {
    header_t before = {0};
    int slot = newest(storage, layout, n, &before);
    if (slot == NET_STORAGE_FAILED)
        return slot;
    header_t h = {MAGIC, layout, (uint32_t)n, before.sequence + 1, 0};
    slot = slot < 0 ? 0 : !slot;
    h.checksum = crc(head_crc(&h), state, n);
    /* The header last: until it is written, the slot holds nothing. */
    if (storage->erase(slot) || storage->write(slot, sizeof h, state, n) ||
        storage->write(slot, 0, &h, sizeof h))
        return NET_STORAGE_FAILED;
    return 0;
}

int storage_load(const net_storage_t *storage, uint32_t layout, void *state, size_t n) {
    header_t h;
    int slot = newest(storage, layout, n, &h);
    if (slot < 0)
        return slot;
    return storage->read(slot, sizeof h, state, n) ? NET_STORAGE_FAILED : 0;
}

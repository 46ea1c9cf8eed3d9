/* SPDX-License-Identifier: Apache-2.0
 * A state in two slots: a save writes the older one, so that a power cut leaves the other. */
#ifndef STORAGE_H
#define STORAGE_H

#include <stddef.h>
#include <stdint.h>

/* How slots 0 and 1 are reached; each function returns 0, or something else where it failed. */
typedef struct {
    int (*erase)(int slot);
    int (*write)(int slot, size_t offset, const void *from, size_t n);
    int (*read)(int slot, size_t offset, void *to, size_t n);
} net_storage_t;

enum { STORAGE_HEADER_BYTES = 20 };

enum {
    NET_STORAGE_FAILED = -4,    /* a function of the storage said so */
    NET_NOTHING_SAVED = -5,     /* no slot holds a state of this network */
    NET_CORRUPT = -6            /* one does, but its checksum is wrong, and there is no other */
};

/* `layout` tells networks apart. Both return 0 or one of the errors above. */
int storage_save(const net_storage_t *storage, uint32_t layout, const void *state, size_t n);
int storage_load(const net_storage_t *storage, uint32_t layout, void *state, size_t n);

#endif

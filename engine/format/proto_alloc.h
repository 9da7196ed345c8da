/*
 * The allocator that protobuf-c gets when it parses: hostile bytes can ask for 92 times their size,
 * so it stops at a limit.
 *
 *     struct proto_alloc alloc;
 *     message = x__unpack(proto_alloc_init(&alloc, PROTO_ALLOC_LIMIT), size, bytes);
 *     ...
 *     x__free_unpacked(message, &alloc.base);
 */
#ifndef ENGINE_FORMAT_PROTO_ALLOC_H
#define ENGINE_FORMAT_PROTO_ALLOC_H

#include <protobuf-c/protobuf-c.h>

#include <stdbool.h>
#include <stddef.h>

#define PROTO_ALLOC_LIMIT  ((size_t)8 << 20) /* bytes, for messages up to 1 MiB */
#define PROTO_ALLOC_FACTOR 8                 /* times its size, for larger ones */

struct proto_alloc {
    ProtobufCAllocator base; /* what protobuf-c is given */
    size_t left;             /* bytes it may still ask for; what it frees is not given back */
    bool exceeded;           /* it wanted more: the message is hostile */
    bool failed;             /* the heap had no more */
};

/* Returns &alloc->base. */
ProtobufCAllocator *proto_alloc_init(struct proto_alloc *alloc, size_t limit_bytes);

/* The limit for a message of `size` bytes. */
size_t proto_alloc_limit(size_t size);

#endif

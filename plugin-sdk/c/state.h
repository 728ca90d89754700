/* State that outlives a request: the stores that the server grants (`--state`). */
#ifndef PLUGSOCK_STATE_H
#define PLUGSOCK_STATE_H

#include "plugsock.h"

/* Values by their keys, which all requests of all handlers share that are granted the store. */
struct plugsock_store {
    /* For the functions of `handler.h`. */
    wasi_keyvalue_store_own_bucket_t bucket;
    /* Why the last operation failed, in words; NULL if it did not. Valid until the next error of any store. */
    const char *error;
    /* What it was: WASI_KEYVALUE_STORE_ERROR_NO_SUCH_STORE, ..._ACCESS_DENIED or ..._OTHER; -1 if it did not. */
    int state_error;
};

/* Opens the store that the server grants under this name. */
bool plugsock_open_store(struct plugsock_store *store, const char *name);

/* Lets go of the store, which stays as it is. */
void plugsock_close_store(struct plugsock_store *store);

/* Whether a key has a value, and the value, which `handler_list_u8_free` frees. false: it has none, or an error. */
bool plugsock_store_get(struct plugsock_store *store, const char *key, handler_list_u8_t *value);

/* Sets the value of a key, whether it had one or not. */
bool plugsock_store_set(struct plugsock_store *store, const char *key, const void *value, size_t size);

/* Deletes a key; nothing happens if it has no value. */
bool plugsock_store_delete(struct plugsock_store *store, const char *key);

/* Whether a key has a value. false: it has none, or an error. */
bool plugsock_store_exists(struct plugsock_store *store, const char *key);

/* Adds to the number that a key has, whoever else adds to it at once; `sum` may be NULL. A key without a value has 0; the
 * value is the number as decimal text. */
bool plugsock_store_increment(struct plugsock_store *store, const char *key, int64_t delta, int64_t *sum);

/* Replaces the value of a key if it is the one expected, NULL for none. false: it was another, or an error. */
bool plugsock_store_compare_and_swap(struct plugsock_store *store, const char *key, const void *expected,
                                     size_t expected_size, const void *value, size_t size);

/* All keys that begin with `prefix`, in order, with NULL after the last; NULL after an error. It has the whole store looked
 * through. */
char **plugsock_store_keys(struct plugsock_store *store, const char *prefix);
void plugsock_free_keys(char **keys);

#endif

#include "state.h"

#include <stdlib.h>
#include <string.h>

/* As C has strings; takes the memory. Of plugsock.c. */
char *plugsock_terminated(handler_string_t *string);

static handler_string_t borrowed(const char *text) {
    return (handler_string_t){.ptr = (uint8_t *)text, .len = strlen(text)};
}

static handler_list_u8_t bytes(const void *data, size_t size) {
    return (handler_list_u8_t){.ptr = (uint8_t *)data, .len = size};
}

static wasi_keyvalue_store_borrow_bucket_t bucket(const struct plugsock_store *store) {
    return wasi_keyvalue_store_borrow_bucket(store->bucket);
}

static void begin(struct plugsock_store *store) {
    store->error = NULL;
    store->state_error = -1;
}

/* Remembers why an operation failed; takes the memory. */
static bool fail(struct plugsock_store *store, wasi_keyvalue_store_error_t *error) {
    static char *other;
    store->state_error = error->tag;
    switch (error->tag) {
    case WASI_KEYVALUE_STORE_ERROR_NO_SUCH_STORE:
        store->error = "the server grants no store of this name";
        break;
    case WASI_KEYVALUE_STORE_ERROR_ACCESS_DENIED:
        store->error = "the server grants the store for reading only";
        break;
    default:
        free(other);
        store->error = other = plugsock_terminated(&error->val.other);
    }
    return false;
}

bool plugsock_open_store(struct plugsock_store *store, const char *name) {
    begin(store);
    handler_string_t identifier = borrowed(name);
    wasi_keyvalue_store_error_t error;
    return wasi_keyvalue_store_open(&identifier, &store->bucket, &error) || fail(store, &error);
}

void plugsock_close_store(struct plugsock_store *store) {
    wasi_keyvalue_store_bucket_drop_own(store->bucket);
}

bool plugsock_store_get(struct plugsock_store *store, const char *key, handler_list_u8_t *value) {
    begin(store);
    handler_string_t name = borrowed(key);
    handler_option_list_u8_t found;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_store_method_bucket_get(bucket(store), &name, &found, &error))
        return fail(store, &error);
    if (found.is_some)
        *value = found.val;
    return found.is_some;
}

bool plugsock_store_set(struct plugsock_store *store, const char *key, const void *value, size_t size) {
    begin(store);
    handler_string_t name = borrowed(key);
    handler_list_u8_t data = bytes(value, size);
    wasi_keyvalue_store_error_t error;
    return wasi_keyvalue_store_method_bucket_set(bucket(store), &name, &data, &error) || fail(store, &error);
}

bool plugsock_store_delete(struct plugsock_store *store, const char *key) {
    begin(store);
    handler_string_t name = borrowed(key);
    wasi_keyvalue_store_error_t error;
    return wasi_keyvalue_store_method_bucket_delete(bucket(store), &name, &error) || fail(store, &error);
}

bool plugsock_store_exists(struct plugsock_store *store, const char *key) {
    begin(store);
    handler_string_t name = borrowed(key);
    bool exists;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_store_method_bucket_exists(bucket(store), &name, &exists, &error))
        return fail(store, &error);
    return exists;
}

bool plugsock_store_increment(struct plugsock_store *store, const char *key, int64_t delta, int64_t *sum) {
    begin(store);
    handler_string_t name = borrowed(key);
    int64_t unused;
    wasi_keyvalue_store_error_t error;
    return wasi_keyvalue_atomics_increment(bucket(store), &name, delta, sum != NULL ? sum : &unused, &error) ||
           fail(store, &error);
}

/* Whether a value that was looked at is the one expected. */
static bool is_current(struct plugsock_store *store, wasi_keyvalue_atomics_own_cas_t cas, const void *expected,
                       size_t size) {
    handler_option_list_u8_t found;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_atomics_method_cas_current(wasi_keyvalue_atomics_borrow_cas(cas), &found, &error))
        return fail(store, &error);
    if (!found.is_some)
        return expected == NULL;
    bool is_same =
        expected != NULL && found.val.len == size && (size == 0 || memcmp(found.val.ptr, expected, size) == 0);
    handler_list_u8_free(&found.val);
    return is_same;
}

bool plugsock_store_compare_and_swap(struct plugsock_store *store, const char *key, const void *expected,
                                     size_t expected_size, const void *value, size_t size) {
    begin(store);
    handler_string_t name = borrowed(key);
    wasi_keyvalue_atomics_own_cas_t cas;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_atomics_static_cas_new(bucket(store), &name, &cas, &error))
        return fail(store, &error);
    if (!is_current(store, cas, expected, expected_size)) {
        wasi_keyvalue_atomics_cas_drop_own(cas);
        return false;
    }
    handler_list_u8_t data = bytes(value, size);
    wasi_keyvalue_atomics_cas_error_t failure;
    if (wasi_keyvalue_atomics_swap(cas, &data, &failure))
        return true;
    if (failure.tag == WASI_KEYVALUE_ATOMICS_CAS_ERROR_STORE_ERROR)
        return fail(store, &failure.val.store_error);
    /* Somebody else was faster; it is what the value is now. */
    wasi_keyvalue_atomics_cas_drop_own(failure.val.cas_failed);
    return false;
}

static int in_order(const void *one, const void *other) {
    return strcmp(*(char *const *)one, *(char *const *)other);
}

/* Sorts keys, of which a store may show one twice that others work on meanwhile, and ends them with NULL. */
static char **sorted(char **keys, size_t count) {
    qsort(keys, count, sizeof *keys, in_order);
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        if (length > 0 && strcmp(keys[i], keys[length - 1]) == 0)
            free(keys[i]);
        else
            keys[length++] = keys[i];
    }
    keys[length] = NULL;
    return keys;
}

char **plugsock_store_keys(struct plugsock_store *store, const char *prefix) {
    begin(store);
    char **keys = NULL;
    size_t count = 0, prefix_size = strlen(prefix);
    handler_option_string_t cursor = {.is_some = false};
    for (;;) {
        wasi_keyvalue_store_key_response_t page;
        wasi_keyvalue_store_error_t error;
        bool is_there = wasi_keyvalue_store_method_bucket_list_keys(
            bucket(store), cursor.is_some ? &cursor.val : NULL, &page, &error);
        if (cursor.is_some)
            handler_string_free(&cursor.val);
        char **longer = is_there ? realloc(keys, (count + page.keys.len + 1) * sizeof *keys) : NULL;
        if (is_there && longer == NULL)
            abort();
        if (!is_there) {
            fail(store, &error);
            if (keys != NULL)
                plugsock_free_keys(sorted(keys, count));
            return NULL;
        }
        keys = longer;
        for (size_t i = 0; i < page.keys.len; i++) {
            handler_string_t *key = &page.keys.ptr[i];
            if (key->len >= prefix_size && memcmp(key->ptr, prefix, prefix_size) == 0)
                keys[count++] = plugsock_terminated(key);
            else
                handler_string_free(key);
        }
        if (page.keys.len > 0)
            free(page.keys.ptr);
        cursor = page.cursor;
        if (!cursor.is_some)
            return sorted(keys, count);
    }
}

void plugsock_free_keys(char **keys) {
    for (char **key = keys; *key != NULL; key++)
        free(*key);
    free(keys);
}

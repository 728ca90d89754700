/* Works on stores, a line an operation, first on the store `counts`; says of an error of what kind it is. */
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct plugsock_store store;

static const char *counted(size_t number) {
    static char text[24];
    snprintf(text, sizeof text, "%zu", number);
    return text;
}

/* As a text, which is never freed: an instance is gone with its request. */
static const char *text(const handler_list_u8_t *value) {
    char *copy = calloc(value->len + 1, 1);
    memcpy(copy, value->ptr, value->len);
    return copy;
}

static bool repeat(const char *key, size_t count) {
    char *value = malloc(count);
    memset(value, 'v', count);
    bool is_set = plugsock_store_set(&store, key, value, count);
    free(value);
    return is_set;
}

static bool fill(int count) {
    for (int i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof key, "fill:%d", i);
        if (!plugsock_store_set(&store, key, "x", 1))
            return false;
    }
    return true;
}

static bool add(const char *key) {
    for (;;) {
        handler_list_u8_t value;
        const char *seen = plugsock_store_get(&store, key, &value) ? text(&value) : NULL;
        const char *more = counted(seen != NULL ? atoi(seen) + 1 : 1);
        if (plugsock_store_compare_and_swap(&store, key, seen, seen != NULL ? strlen(seen) : 0, more, strlen(more)))
            return true;
        if (store.error != NULL)
            return false;
    }
}

static const char *list(const char *prefix, bool is_counted) {
    char **keys = plugsock_store_keys(&store, prefix);
    if (keys == NULL)
        return NULL;
    static char line[256];
    size_t count = 0;
    line[0] = 0;
    for (; keys[count] != NULL; count++) {
        if (!is_counted)
            snprintf(line + strlen(line), sizeof line - strlen(line), count > 0 ? " %s" : "%s", keys[count]);
    }
    plugsock_free_keys(keys);
    return is_counted ? counted(count) : line;
}

static const char *operate(const char *operation, const char *key, const char *one, const char *other) {
    handler_list_u8_t value = {.ptr = (uint8_t *)"none", .len = 4};
    int64_t sum = 0;
    if (strcmp(operation, "open") == 0) {
        struct plugsock_store opened;
        bool is_open = plugsock_open_store(&opened, key);
        if (is_open)
            plugsock_close_store(&store);
        else
            opened.bucket = store.bucket;
        store = opened;
        return "opened";
    }
    if (strcmp(operation, "get") == 0) {
        plugsock_store_get(&store, key, &value);
        return text(&value);
    }
    if (strcmp(operation, "length") == 0)
        return counted(plugsock_store_get(&store, key, &value) ? value.len : 0);
    if (strcmp(operation, "set") == 0)
        return plugsock_store_set(&store, key, one, strlen(one)) ? "set" : NULL;
    if (strcmp(operation, "repeat") == 0)
        return repeat(key, atoi(one)) ? "set" : NULL;
    if (strcmp(operation, "fill") == 0)
        return fill(atoi(key)) ? "filled" : NULL;
    if (strcmp(operation, "del") == 0)
        return plugsock_store_delete(&store, key) ? "deleted" : NULL;
    if (strcmp(operation, "has") == 0)
        return plugsock_store_exists(&store, key) ? "true" : "false";
    if (strcmp(operation, "incr") == 0) {
        static char number[24];
        plugsock_store_increment(&store, key, atoll(one), &sum);
        snprintf(number, sizeof number, "%lld", (long long)sum);
        return number;
    }
    if (strcmp(operation, "cas") == 0) {
        const char *old = strcmp(one, "none") != 0 ? one : NULL;
        return plugsock_store_compare_and_swap(&store, key, old, strlen(one), other, strlen(other)) ? "true"
                                                                                                    : "false";
    }
    if (strcmp(operation, "add") == 0)
        return add(key) ? "added" : NULL;
    return list(key, strcmp(operation, "count") == 0);
}

const char *handle(struct plugsock_request *request) {
    if (!plugsock_open_store(&store, "counts"))
        return store.error;
    static char line[1024];
    while (plugsock_read_line(request, line, sizeof line) > 0) {
        char *words[4] = {0};
        words[0] = strtok(line, " \n");
        for (int i = 1; i < 4; i++) {
            char *word = strtok(NULL, " \n");
            words[i] = word != NULL ? word : "";
        }
        const char *answer = operate(words[0], words[1], words[2], words[3]);
        if (store.state_error == WASI_KEYVALUE_STORE_ERROR_NO_SUCH_STORE)
            answer = "no-such-store";
        else if (store.state_error == WASI_KEYVALUE_STORE_ERROR_ACCESS_DENIED)
            answer = "access-denied";
        else if (store.error != NULL) {
            plugsock_puts(request, "other: ");
            answer = store.error;
        }
        plugsock_puts(request, answer);
        plugsock_puts(request, "\n");
    }
    return request->error;
}

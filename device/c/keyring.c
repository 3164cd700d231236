#include "keyring.h"
#include "say.h"

#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASKED "asked"
#define PROVEN "proven"

static const char *const files[2] = {"slot-a", "slot-b"};

/* Empties one slot in memory. */
static void clear(struct keyring *keyring, int slot)
{
    credential_free(&keyring->slots[slot]);
    credential_init(&keyring->slots[slot]);
    keyring->numbers[slot] = 0;
}

static enum outcome drop(struct keyring *keyring, int slot)
{
    clear(keyring, slot);
    return storage_remove(keyring->storage, files[slot]);
}

/* Reads one slot anew. The number comes first; readers of PEM pass over it. */
static enum outcome load(struct keyring *keyring, int slot)
{
    char pem[STORED_BYTES_MAX];
    size_t length;
    enum outcome outcome = storage_read(keyring->storage, files[slot], pem, sizeof pem, &length);

    clear(keyring, slot);
    if (outcome == DONE && length > 0 &&
        credential_read(&keyring->slots[slot], pem, length) == DONE)
        keyring->numbers[slot] = strtol(pem, NULL, 10);
    mbedtls_platform_zeroize(pem, sizeof pem);
    return outcome;
}

enum outcome keyring_open(struct keyring *keyring, const struct storage *storage)
{
    char text[24];
    size_t length;
    long proven;
    enum outcome outcome;
    int slot;

    memset(keyring, 0, sizeof *keyring);
    keyring->storage = storage;
    keyring->proven = -1;
    credential_init(&keyring->slots[0]);
    credential_init(&keyring->slots[1]);
    outcome = storage_read(storage, PROVEN, text, sizeof text, &length);
    proven = outcome == DONE ? strtol(text, NULL, 10) : 0;
    for (slot = 0; slot < 2 && outcome == DONE; slot++) {
        outcome = load(keyring, slot);
        if (proven > 0 && keyring->numbers[slot] == proven)
            keyring->proven = slot;
    }
    return outcome;
}

void keyring_close(struct keyring *keyring)
{
    credential_free(&keyring->slots[0]);
    credential_free(&keyring->slots[1]);
}

/* The slot of the newest, or -1. */
static int newest(const struct keyring *keyring)
{
    int slot = keyring->numbers[1] > keyring->numbers[0] ? 1 : 0;

    return keyring->numbers[slot] > 0 ? slot : -1;
}

struct credential *keyring_newest(struct keyring *keyring)
{
    int slot = newest(keyring);

    return slot < 0 ? NULL : &keyring->slots[slot];
}

struct credential *keyring_present(struct keyring *keyring)
{
    return keyring->proven < 0 ? keyring_newest(keyring) : &keyring->slots[keyring->proven];
}

int keyring_is_unproven(const struct keyring *keyring)
{
    return keyring->proven >= 0 && newest(keyring) != keyring->proven;
}

enum outcome keyring_ask(const struct keyring *keyring, struct random *random,
                         char pem[KEY_PEM_BYTES_MAX])
{
    mbedtls_pk_context key;
    size_t length;
    int slot, is_open;
    enum outcome outcome = storage_read(keyring->storage, ASKED, pem, KEY_PEM_BYTES_MAX, &length);

    if (outcome != DONE)
        return outcome;
    mbedtls_pk_init(&key);
    is_open = length > 0 && mbedtls_pk_parse_key(&key, (const unsigned char *)pem, length + 1,
                                                 NULL, 0) == 0;
    /* Answered, and a power cut came before it could be said so. */
    for (slot = 0; slot < 2 && is_open; slot++) {
        if (keyring->numbers[slot] > 0 &&
            mbedtls_pk_check_pair(&keyring->slots[slot].chain.pk, &key) == 0)
            is_open = 0;
    }
    mbedtls_pk_free(&key);
    if (is_open)
        return DONE;
    outcome = key_make(random, pem);
    return outcome == DONE ? storage_write(keyring->storage, ASKED, pem, strlen(pem)) : outcome;
}

enum outcome keyring_forget_asked(const struct keyring *keyring)
{
    return storage_remove(keyring->storage, ASKED);
}

enum outcome keyring_take(struct keyring *keyring, const char *certificate, size_t length)
{
    char pem[STORED_BYTES_MAX];
    struct credential taken;
    size_t whole, key_length;
    int slot = keyring->proven == 0 ? 1 : 0, last = newest(keyring);
    long number = last < 0 ? 1 : keyring->numbers[last] + 1;
    enum outcome outcome;

    whole = (size_t)snprintf(pem, sizeof pem, "%ld\n", number);
    outcome = storage_read(keyring->storage, ASKED, pem + whole, sizeof pem - whole, &key_length);
    if (outcome != DONE)
        return outcome;
    whole += key_length;
    if (length >= sizeof pem - whole) {
        say("a certificate too large to keep");
        return NOT_THE_PLANE;
    }
    memcpy(pem + whole, certificate, length);
    whole += length;
    pem[whole] = '\0';
    /* Looked at before it is kept: an answer that is none costs no write. */
    credential_init(&taken);
    if (credential_read(&taken, pem, whole) != DONE)
        outcome = NOT_THE_PLANE;
    if (outcome == DONE)
        outcome = storage_write(keyring->storage, files[slot], pem, whole);
    mbedtls_platform_zeroize(pem, sizeof pem);
    if (outcome != DONE) {
        credential_free(&taken);
        return outcome;
    }
    clear(keyring, slot);
    keyring->slots[slot] = taken;
    keyring->numbers[slot] = number;
    return storage_remove(keyring->storage, ASKED);
}

enum outcome keyring_prove(struct keyring *keyring)
{
    char text[24];
    int slot = newest(keyring), length;
    enum outcome outcome = DONE;

    if (slot < 0)
        return DONE;
    if (keyring->proven != slot) {
        /* The switch is this one rename. */
        length = snprintf(text, sizeof text, "%ld\n", keyring->numbers[slot]);
        outcome = storage_write(keyring->storage, PROVEN, text, (size_t)length);
        if (outcome == DONE)
            keyring->proven = slot;
    }
    /* Also what a power cut between the switch and here has left. */
    if (outcome == DONE && keyring->numbers[1 - slot] > 0)
        outcome = drop(keyring, 1 - slot);
    return outcome;
}

enum outcome keyring_drop_unproven(struct keyring *keyring)
{
    return keyring_is_unproven(keyring) ? drop(keyring, newest(keyring)) : DONE;
}

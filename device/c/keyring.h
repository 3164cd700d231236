/*
 * The certificates this device holds: two slots, one of which is proven. A new certificate goes
 * into the other slot and retires the old one only when it has opened a session. Every step is one
 * durable write, and whatever a power cut leaves, the next start finds a way in: at worst the
 * factory identity.
 *
 *   slot-a, slot-b   a number, one more than any before; a key and its certificate, PEM
 *   proven           the number of the one that has opened a session
 *   asked            the key whose request is not answered yet, PEM
 */
#ifndef FLEETWARD_KEYRING_H
#define FLEETWARD_KEYRING_H

#include "credential.h"
#include "storage.h"

struct keyring {
    const struct storage *storage;
    struct credential slots[2];
    /* 0: the slot is empty. */
    long numbers[2];
    /* A slot, or -1. */
    int proven;
};

/* Files that are damaged are as good as none. */
enum outcome keyring_open(struct keyring *keyring, const struct storage *storage);
void keyring_close(struct keyring *keyring);

/* The one to connect with: the unproven if there is one, until it is refused; NULL: none. */
struct credential *keyring_newest(struct keyring *keyring);

/* The one to renew with: the proven, or the only one there is; NULL: none. */
struct credential *keyring_present(struct keyring *keyring);

/* True if the newest has not opened a session and another one has. */
int keyring_is_unproven(const struct keyring *keyring);

/*
 * The key to make a request of, as PEM: the one that was asked for before and not answered, or a
 * new one, kept before it is used.
 */
enum outcome keyring_ask(const struct keyring *keyring, struct random *random,
                         char pem[KEY_PEM_BYTES_MAX]);

/* What was asked for was refused: the next request is made anew. */
enum outcome keyring_forget_asked(const struct keyring *keyring);

/* Takes a certificate, PEM, for the key that was asked for: durable, and not yet proven. */
enum outcome keyring_take(struct keyring *keyring, const char *certificate, size_t length);

/* The newest has opened a session: the other one retires. */
enum outcome keyring_prove(struct keyring *keyring);

/* The newest was refused while another one is proven: it is dropped. */
enum outcome keyring_drop_unproven(struct keyring *keyring);

#endif

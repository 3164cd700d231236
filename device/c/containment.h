/* What the plane tells a device about itself: `{"containment": "quarantined"}`. */
#ifndef FLEETWARD_CONTAINMENT_H
#define FLEETWARD_CONTAINMENT_H

#include <stddef.h>

enum containment {
    /* Not understood: nothing changes. */
    CONTAINMENT_UNKNOWN,
    /* Speaks as its grants allow. */
    FREE,
    /* Speaks to the plane alone. */
    QUARANTINED,
    /* Speaks to nobody. */
    ISOLATED
};

/* Reads what was told; fields that are not known are passed over. */
enum containment containment_read(const char *json, size_t length);

#endif

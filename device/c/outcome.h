/* How a step ended. Zero is well; the rest says what to do next. */
#ifndef FLEETWARD_OUTCOME_H
#define FLEETWARD_OUTCOME_H

enum outcome {
    DONE = 0,
    /* We are asked to end. */
    STOPPED,
    /* No connection, or it was cut, or nothing came in time: again later. */
    UNREACHABLE,
    /* The other side is not the plane, or does not speak as it does: again later. */
    NOT_THE_PLANE,
    /* The plane does not take the certificate that was shown. */
    CERTIFICATE_REFUSED,
    /* The plane says no and why; asking the same again does not help. */
    REFUSED,
    /* A person must decide first: the same again later. */
    PENDING,
    /* Something of our own does not work: memory, storage, random numbers. */
    BROKEN
};

#endif

#include "containment.h"

#include <string.h>

#define DEPTH_MAX 8

struct text {
    const char *at;
    const char *end;
};

static void skip_space(struct text *in)
{
    while (in->at < in->end && strchr(" \t\r\n", *in->at) != NULL && *in->at != '\0')
        in->at++;
}

/* True, and past it, if this character comes next. */
static int takes(struct text *in, char wanted)
{
    skip_space(in);
    if (in->at >= in->end || *in->at != wanted)
        return 0;
    in->at++;
    return 1;
}

/* A string, its quotes left out and its escapes as they are; our own words have none. */
static int take_string(struct text *in, struct text *out)
{
    if (!takes(in, '"'))
        return 0;
    out->at = in->at;
    while (in->at < in->end && *in->at != '"') {
        /* What is escaped does not end the string. */
        if (*in->at == '\\' && in->at + 1 < in->end)
            in->at++;
        in->at++;
    }
    if (in->at >= in->end)
        return 0;
    out->end = in->at++;
    return 1;
}

/* A value of any kind. */
static int skip_value(struct text *in, int depth)
{
    struct text unused;

    skip_space(in);
    if (in->at >= in->end || depth > DEPTH_MAX)
        return 0;
    if (*in->at == '"')
        return take_string(in, &unused);
    if (*in->at == '{' || *in->at == '[') {
        char close = *in->at++ == '{' ? '}' : ']';

        if (takes(in, close))
            return 1;
        do {
            if (close == '}' && !(take_string(in, &unused) && takes(in, ':')))
                return 0;
            if (!skip_value(in, depth + 1))
                return 0;
        } while (takes(in, ','));
        return takes(in, close);
    }
    unused.at = in->at;
    while (in->at < in->end && strchr(",]} \t\r\n", *in->at) == NULL)
        in->at++;
    return in->at > unused.at;
}

static int is(const struct text *text, const char *word)
{
    size_t length = strlen(word);

    return (size_t)(text->end - text->at) == length && memcmp(text->at, word, length) == 0;
}

/* The value of the one field that is ours. */
static enum containment take_degree(struct text *in)
{
    struct text degree;

    if (take_string(in, &degree)) {
        if (is(&degree, "quarantined"))
            return QUARANTINED;
        return is(&degree, "isolated") ? ISOLATED : CONTAINMENT_UNKNOWN;
    }
    skip_space(in);
    degree.at = in->at;
    if (!skip_value(in, 0))
        return CONTAINMENT_UNKNOWN;
    degree.end = in->at;
    return is(&degree, "null") ? FREE : CONTAINMENT_UNKNOWN;
}

enum containment containment_read(const char *json, size_t length)
{
    struct text in = {json, json + length}, key;
    enum containment told = CONTAINMENT_UNKNOWN;

    if (length == 0 || !takes(&in, '{'))
        return CONTAINMENT_UNKNOWN;
    do {
        if (!take_string(&in, &key) || !takes(&in, ':'))
            return CONTAINMENT_UNKNOWN;
        if (is(&key, "containment"))
            told = take_degree(&in);
        else if (!skip_value(&in, 0))
            return CONTAINMENT_UNKNOWN;
    } while (takes(&in, ','));
    return takes(&in, '}') ? told : CONTAINMENT_UNKNOWN;
}

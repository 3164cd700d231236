"""A check for schemathesis: nobody gets what their role does not permit, and each what it permits."""

import json
import os

import schemathesis

MAY = set(os.environ["FLEETWARD_MAY"].split())


@schemathesis.serializer("application/eat+cwt")
def serialize_token(ctx, value):
    return json.dumps(value).encode()


@schemathesis.check
def nothing_beyond_the_role(ctx, response, case):
    operation = case.operation
    if response.request.method != operation.method.upper():
        # A probe with another method; it is no operation.
        return
    action = operation.definition.raw["x-action"]
    # Who asks too often hears that before anything else.
    is_refused = response.status_code in (401, 403, 429)
    if action not in MAY:
        assert is_refused, f"{action} is not theirs, and was answered {response.status_code}"
    elif is_refused:
        code = response.json()["code"] if response.content else None
        assert code not in ("not-permitted", "not-signed-in"), f"{action} is theirs: {code}"

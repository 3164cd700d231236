"""A check for schemathesis: nobody gets what their role does not permit, and each what it permits."""

import os

import schemathesis

MAY = set(os.environ["FLEETWARD_MAY"].split())


@schemathesis.check
def nothing_beyond_the_role(ctx, response, case):
    operation = case.operation
    if response.request.method != operation.method.upper():
        # A probe with another method; it is no operation.
        return
    action = operation.definition.raw["x-action"]
    is_refused = response.status_code in (401, 403)
    if action not in MAY:
        assert is_refused, f"{action} is not theirs, and was answered {response.status_code}"
    elif is_refused:
        code = response.json()["code"]
        assert code not in ("not-permitted", "not-signed-in"), f"{action} is theirs: {code}"

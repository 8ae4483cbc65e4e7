"""Verifies and signs tokens like a Python service. Reads a job from stdin and writes a result to stdout."""

import base64
import json
import sys

import jwt


def verify(job, row):
    try:
        if "jwks" in row:
            key = jwt.PyJWKClient(row["jwks"]).get_signing_key_from_jwt(row["token"]).key
        else:
            key = base64.b64decode(row["secret"])
        claims = jwt.decode(
            row["token"],
            key,
            algorithms=[row["alg"]],
            issuer=job["issuer"],
            audience=job["audience"],
            options={"require": ["exp", "iat", "sub", "jti"]},
        )
        return {"claims": claims}
    except jwt.PyJWTError as error:
        return {"error": repr(error)}


def sign(row):
    key = row["pem"] if "pem" in row else base64.b64decode(row["secret"])
    return jwt.encode(row["claims"], key, algorithm=row["alg"], headers=row["header"])


job = json.load(sys.stdin)
json.dump(
    {
        "library": "PyJWT " + jwt.__version__,
        "verify": [verify(job, row) for row in job["verify"]],
        "sign": [sign(row) for row in job["sign"]],
    },
    sys.stdout,
)

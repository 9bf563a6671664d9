"""The few pages that people see: no script, nothing from elsewhere, readable with any browser and any reader."""

import base64
import hashlib
from collections.abc import Iterable
from html import escape

from aiohttp import web

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:26rem;margin:3rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}"
    "h1{font-size:1.4rem}label{display:block;margin:1rem 0 .25rem}"
    "input{width:100%;box-sizing:border-box;font:inherit;padding:.5rem;border:1px solid #595959;border-radius:4px}"
    "button{font:inherit;margin:1.25rem .5rem 0 0;padding:.5rem 1.25rem;border:1px solid #27408b;border-radius:4px;"
    "background:#27408b;color:#fff}button.plain{background:#fff;color:#27408b}"
    ":focus-visible{outline:3px solid #b35900;outline-offset:2px}"
    ".error{border-left:4px solid #b00020;padding:.25rem .75rem}"
    "footer{margin-top:2.5rem;font-size:.85rem;color:#595959}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_SCOPES = {
    "openid": "know who you are",
    "profile": "see your name",
    "email": "see your e-mail address",
    "groups": "see your groups",
    "wlcg.groups": "see your groups in the WLCG form",
    "offline_access": "act for you while you are away",
}


def page(title: str, body: str, *, status: int = 200, error: str = "", form_target: str = "") -> web.Response:
    """Return a page; *body* is HTML that is escaped already, *form_target* an origin to which a form may redirect."""
    alert = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · Indaco</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{alert}{body}</main>"
        "<footer>The built-in identity provider of Indaco, for development and demonstrations only.</footer>"
        "</body></html>"
    )
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self' {form_target}".rstrip()
        + "; base-uri 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy}
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=headers)


def form(action: str, hidden: dict[str, str], fields: str) -> str:
    """Return a form that posts *hidden* values and *fields* (HTML that is escaped already)."""
    inputs = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in hidden.items()
    )
    return f'<form method="post" action="{escape(action)}">{inputs}{fields}</form>'


def login_fields(username: str = "") -> str:
    return (
        '<label for="username">User name</label>'
        f'<input id="username" name="username" value="{escape(username)}" autocomplete="username" required autofocus>'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" required>'
        '<button type="submit">Log in</button>'
    )


def user_code_fields(user_code: str = "") -> str:
    return (
        '<label for="user_code">Code shown on your device</label>'
        f'<input id="user_code" name="user_code" value="{escape(user_code)}" autocomplete="off" required autofocus>'
        '<button type="submit">Continue</button>'
    )


def consent_fields() -> str:
    return (
        '<button type="submit" name="decision" value="allow">Allow</button>'
        '<button type="submit" name="decision" value="deny" class="plain">Refuse</button>'
        '<button type="submit" name="decision" value="switch" class="plain">Use another account</button>'
    )


def wishes(client: str, scopes: Iterable[str]) -> str:
    """Return the sentence that says who asks for what."""
    known = [_SCOPES[scope] for scope in sorted(scopes) if scope in _SCOPES]
    items = "".join(f"<li>{escape(each)}</li>" for each in known)
    return f"<p><strong>{escape(client)}</strong> asks to:</p><ul>{items}</ul>"

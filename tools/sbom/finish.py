"""Corrects and completes what cargo-cyclonedx wrote, for tools/sbom/make.

    finish.py BILL CRATES       writes the finished bill of materials to standard output

Takes away crates that aren't in CRATES (lines of `cargo tree`), and the path of this machine; adds what
a static binary holds besides crates: Rust's standard library, glibc and GCC's unwinder. Then holds it
against CycloneDX' schema. Exit code 1 if it breaks the schema, 3 if the validator isn't installed
although SBOM_TOOLS=required.
"""

import json
import os
import re
import subprocess
import sys


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def linked():
    """What comes from the machine that builds, as components."""
    rust = re.search(r"^release: (.+)$", output_of("rustc", "-vV"), re.MULTILINE)[1]
    yield "rust-std", rust, "MIT OR Apache-2.0", f"pkg:generic/rust-std@{rust}"
    for name, package, licence in [
        ("glibc", "libc6-dev", "LGPL-2.1-or-later"),
        ("libgcc_eh", "libgcc-12-dev", "GPL-3.0-or-later WITH GCC-exception-3.1"),
    ]:
        try:
            version = output_of("dpkg-query", "--showformat=${Version}", "--show", package)
            url = f"pkg:deb/debian/{package}@{version}"
        except (OSError, subprocess.CalledProcessError):
            print(f"finish.py: no {package} by dpkg; its version stays unknown", file=sys.stderr)
            version, url = "unknown", f"pkg:generic/{name}"
        yield name, version, licence, url


def finished(bill, crates):
    # `name v1.2.3 (...)`, one a line.
    compiled = {tuple(line.split()[:2]) for line in crates.splitlines() if line.strip()}
    kept = [c for c in bill["components"] if (c["name"], f"v{c['version']}") in compiled]
    missing = len(compiled) - 1 - len(kept)
    if missing:
        sys.exit(f"finish.py: {missing} crates of cargo tree are not in the bill")
    for name, version, licence, url in linked():
        kept.append(
            {
                "type": "library",
                "bom-ref": url,
                "name": name,
                "version": version,
                "scope": "required",
                "licenses": [{"expression": licence}],
                "purl": url,
            }
        )
    bill["components"] = kept
    program = bill["metadata"]["component"]
    known = {each["bom-ref"] for each in [*kept, program]}
    bill["dependencies"] = [
        {**each, "dependsOn": sorted(known.intersection(each.get("dependsOn", [])))}
        for each in bill["dependencies"]
        if each["ref"] in known
    ]
    for each in bill["dependencies"]:
        if each["ref"] == program["bom-ref"]:
            each["dependsOn"] += [url for *_, url in linked()]
    text = json.dumps(bill, indent=2, ensure_ascii=False)
    here = re.escape(program["bom-ref"])
    text = re.sub(here, f"{program['name']}@{program['version']}", text)
    return text + "\n"


def validate(text):
    try:
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        broken = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    except ImportError as error:
        print(f"SKIPPED: not held against CycloneDX' schema: {error}", file=sys.stderr)
        if os.environ.get("SBOM_TOOLS") == "required":
            sys.exit(3)
        return
    if broken:
        sys.exit(f"finish.py: {broken}")


def main(bill_file, crates_file):
    with open(bill_file, encoding="utf-8") as file:
        bill = json.load(file)
    with open(crates_file, encoding="utf-8") as file:
        text = finished(bill, file.read())
    validate(text)
    sys.stdout.write(text)


main(*sys.argv[1:])

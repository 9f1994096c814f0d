"""Certificates of a made-up clinic, for TLS."""

import subprocess


def openssl(folder, *words):
    """Run openssl in a folder."""
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def make_certificates(folder, authority, *sides):
    """An authority, and for each side a certificate that it has signed: NAME.pem and NAME.key."""
    new = ("req", "-newkey", "rsa:2048", "-nodes", "-keyout")
    openssl(folder, *new, f"{authority}.key", "-x509", "-out", f"{authority}.pem", "-subj", f"/CN={authority}")
    for side in sides:
        openssl(folder, *new, f"{side}.key", "-out", f"{side}.csr", "-subj", f"/CN={side}")
        signing = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", "2")
        openssl(folder, "x509", "-req", "-in", f"{side}.csr", *signing, "-out", f"{side}.pem")


def security_of(distributed, folder, authority, side):
    """Dask's Security of a side that serves."""
    return distributed.Security(
        require_encryption=True,
        tls_ca_file=str(folder / f"{authority}.pem"),
        **{f"tls_{role}_cert": str(folder / f"{side}.pem") for role in ("scheduler", "worker", "client")},
        **{f"tls_{role}_key": str(folder / f"{side}.key") for role in ("scheduler", "worker", "client")},
    )

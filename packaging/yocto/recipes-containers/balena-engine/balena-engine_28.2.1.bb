SUMMARY = "Container engine for devices"
DESCRIPTION = "One static binary: command line client, daemon, OCI runtime and shim, compatible with Docker."
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=${BALENA_LICENSE_MD5}"

# The release directory of `cargo xtask dist`: a file:// or https:// place, set in local.conf.
BALENA_RELEASES ?= ""
BALENA_LICENSE_MD5 ?= ""

# 28.2.1 here is 28.2-rev1 there: a recipe's version has no hyphen.
BALENA_VERSION = "${@'{}.{}-rev{}'.format(*d.getVar('PV').split('.'))}"

# The archive for the machine, from its tune.
def balena_arch(d):
    arch = d.getVar("TARGET_ARCH")
    features = d.getVar("TUNE_FEATURES").split()
    if arch == "arm":
        if "armv7a" in features or "armv7ve" in features or "armv8a" in features:
            return "armv7hf"
        return "armv6" if "armv6" in features else "armv5"
    return {"x86_64": "x86_64", "aarch64": "aarch64", "i586": "i386", "i686": "i386"}.get(arch, "unsupported")

BALENA_ARCH = "${@balena_arch(d)}"
SRC_URI = "${BALENA_RELEASES}/balena-${BALENA_VERSION}-${BALENA_ARCH}.tar.gz"
SRC_URI[sha256sum] = "${BALENA_SHA256}"
# From SHA256SUMS, for the archive of the machine.
BALENA_SHA256 ?= ""
S = "${WORKDIR}/balena-${BALENA_VERSION}-${BALENA_ARCH}"

COMPATIBLE_HOST = "(x86_64|i.86|aarch64|arm).*-linux.*"

inherit systemd useradd

USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system balena-engine"
SYSTEMD_SERVICE:${PN} = "balena-engine.service balena-engine.socket"
RRECOMMENDS:${PN} = "ca-certificates iptables kernel-module-overlay kernel-module-veth kernel-module-bridge"

# It comes stripped, static and for the oldest machine of its kind.
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
INSANE_SKIP:${PN} = "already-stripped arch"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${bindir} ${D}${systemd_system_unitdir}
    install -m 0755 ${S}/bin/balena ${D}${bindir}/balena
    for name in ${S}/bin/balena*; do
        [ -L "$name" ] || continue
        ln -s balena ${D}${bindir}/$(basename "$name")
    done
    install -m 0644 ${S}/systemd/balena-engine.service ${S}/systemd/balena-engine.socket ${D}${systemd_system_unitdir}/
    sed -i 's#/usr/bin/#${bindir}/#' ${D}${systemd_system_unitdir}/balena-engine.service
}

FILES:${PN} += "${systemd_system_unitdir}"

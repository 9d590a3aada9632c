################################################################################
#
# balena-engine
#
################################################################################

BALENA_ENGINE_VERSION = 28.2-rev1
BALENA_ENGINE_SITE = $(call qstrip,$(BR2_PACKAGE_BALENA_ENGINE_SITE))
BALENA_ENGINE_SOURCE = balena-$(BALENA_ENGINE_VERSION)-$(BALENA_ENGINE_ARCH).tar.gz
BALENA_ENGINE_LICENSE = Apache-2.0
BALENA_ENGINE_LICENSE_FILES = LICENSE

ifeq ($(BR2_x86_64),y)
BALENA_ENGINE_ARCH = x86_64
else ifeq ($(BR2_i386),y)
BALENA_ENGINE_ARCH = i386
else ifeq ($(BR2_aarch64),y)
BALENA_ENGINE_ARCH = aarch64
else ifeq ($(BR2_ARM_CPU_ARMV7A)$(BR2_ARM_CPU_ARMV8A),y)
BALENA_ENGINE_ARCH = armv7hf
else ifeq ($(BR2_ARM_CPU_ARMV6),y)
BALENA_ENGINE_ARCH = armv6
else
BALENA_ENGINE_ARCH = armv5
endif

# It comes stripped and static.
define BALENA_ENGINE_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/bin/balena $(TARGET_DIR)/usr/bin/balena
	for name in $(@D)/bin/balena?*; do \
		ln -sf balena $(TARGET_DIR)/usr/bin/$$(basename $$name); \
	done
endef

define BALENA_ENGINE_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/systemd/balena-engine.service \
		$(TARGET_DIR)/usr/lib/systemd/system/balena-engine.service
	$(INSTALL) -D -m 0644 $(@D)/systemd/balena-engine.socket \
		$(TARGET_DIR)/usr/lib/systemd/system/balena-engine.socket
endef

define BALENA_ENGINE_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(BALENA_ENGINE_PKGDIR)/S60balena-engine \
		$(TARGET_DIR)/etc/init.d/S60balena-engine
endef

# The group of the socket.
define BALENA_ENGINE_USERS
	- -1 balena-engine -1 - - - - -
endef

define BALENA_ENGINE_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_NAMESPACES)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CGROUPS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CGROUP_DEVICE)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CGROUP_PIDS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_MEMCG)
	$(call KCONFIG_ENABLE_OPT,CONFIG_OVERLAY_FS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SECCOMP)
	$(call KCONFIG_ENABLE_OPT,CONFIG_VETH)
	$(call KCONFIG_ENABLE_OPT,CONFIG_BRIDGE)
endef

$(eval $(generic-package))

package main

import (
	"log/slog"

	"github.com/berth-cri/berth/config"
	"github.com/berth-cri/berth/runtime/apparmor"
	"github.com/berth-cri/berth/runtime/selinux"
)

func openAppArmor(c config.Container) *apparmor.AppArmor {
	return apparmor.Open(apparmor.Options{Disable: c.DisableAppArmor, Default: c.AppArmorProfile})
}

// loadAppArmor runs beside the start: the parser takes a moment. A failure ends
// nothing, each container that needs the profile tries again and says why not.
func loadAppArmor(a *apparmor.AppArmor, log *slog.Logger) {
	if a.Absent() != nil {
		return // as on most hosts of some distributions; doctor and Status tell
	}
	if err := a.NoDefault(); err != nil {
		log.Warn("containers that name no AppArmor profile are not confined", "error", err)
	} else if err := a.Load(); err != nil {
		log.Error("no default AppArmor profile: containers that need it will fail", "error", err)
	}
}

// appArmorText is for people. It only looks: a load may be under way.
func appArmorText(c config.Container) string {
	a := openAppArmor(c)
	err := a.NoDefault()
	if err == nil && c.AppArmorProfile != apparmor.Unconfined {
		err = a.Loaded(c.AppArmorProfile)
	}
	if err != nil {
		return "no default profile: " + err.Error()
	}
	return "default profile " + c.AppArmorProfile
}

func openSELinux(c config.Container, log *slog.Logger) *selinux.SELinux {
	if !c.EnableSELinux {
		return nil
	}
	l := selinux.Open()
	if l == nil {
		log.Warn("container.enable_selinux is set, but this host has no SELinux: nothing is labelled")
	}
	return l
}

func seLinuxText(l *selinux.SELinux) string {
	if l == nil {
		return "nothing is labelled"
	}
	return "pods and their files are labelled"
}

package main

import "strings"

// Marks in a User-Agent header, and the names to show. The first match counts: Edge also sends Chrome and Safari, Chrome
// also sends Safari, and Android also sends Linux.
var (
	browsers = [][2]string{{"Edg", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}}
	systems  = [][2]string{{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}}
)

// device returns a label such as "Firefox on Linux" for a User-Agent header. It returns the header of an unknown client
// unchanged. The client chooses the header, so the label is a hint for the user and proves nothing.
func device(userAgent string) string {
	browser, system := firstMatch(browsers, userAgent), firstMatch(systems, userAgent)
	if browser == "" || system == "" {
		return userAgent
	}
	return browser + " on " + system
}

func firstMatch(names [][2]string, userAgent string) string {
	for _, name := range names {
		if strings.Contains(userAgent, name[0]) {
			return name[1]
		}
	}
	return ""
}

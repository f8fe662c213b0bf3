/* SPDX-License-Identifier: MIT */
/* port.h: the optional groups of platform.h that Linux has */
#ifndef BUFFERS_LINUX_PORT_H
#define BUFFERS_LINUX_PORT_H

#define BUFFERS_PORT_HAS_RENDEZVOUS_FILES	1	/* posix/rendezvous-files.c */
#define BUFFERS_PORT_HAS_RENDEZVOUS_MEMORY	0
#define BUFFERS_PORT_HAS_MAPS_SCAN		1	/* maps.c */
#define BUFFERS_PORT_HAS_PACKED			1	/* maps.c */
#define BUFFERS_PORT_HAS_GROWTH			1	/* growth.c */
#define BUFFERS_PORT_HAS_COMMIT			1	/* reserve.c */
#define BUFFERS_PORT_HAS_DISCARD		1	/* reserve.c */
#define BUFFERS_PORT_HAS_HUGE_PAGES		1	/* reserve.c */
#define BUFFERS_PORT_HAS_FORK			1	/* process.c */
#define BUFFERS_PORT_HAS_TASKS			1	/* process.c */
#define BUFFERS_PORT_HAS_SIGNALS		1	/* process.c */
#define BUFFERS_PORT_HAS_ROBUST_LOCKS		1	/* robust-lock.c */
#define BUFFERS_PORT_HAS_OTHER_PROCESSES	0
#define BUFFERS_PORT_HAS_RX_WRITE		1	/* write.c */
#define BUFFERS_PORT_HAS_VIEWS			1	/* view.c */

#endif

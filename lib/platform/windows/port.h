/* SPDX-License-Identifier: MIT */
/* port.h: the optional groups of platform.h that Windows has */
#ifndef BUFFERS_WINDOWS_PORT_H
#define BUFFERS_WINDOWS_PORT_H

#define BUFFERS_PORT_HAS_RENDEZVOUS_FILES	0
#define BUFFERS_PORT_HAS_RENDEZVOUS_MEMORY	1	/* rendezvous-sections.c */
#define BUFFERS_PORT_HAS_MAPS_SCAN		0	/* VirtualQueryEx() answers fast */
#define BUFFERS_PORT_HAS_PACKED			0
#define BUFFERS_PORT_HAS_GROWTH			0	/* heaps and stacks reserve it */
#define BUFFERS_PORT_HAS_COMMIT			1	/* map.c */
#define BUFFERS_PORT_HAS_DISCARD		1	/* map.c */
#define BUFFERS_PORT_HAS_HUGE_PAGES		0	/* large pages need a privilege */
#define BUFFERS_PORT_HAS_FORK			0
#define BUFFERS_PORT_HAS_TASKS			1	/* process.c */
#define BUFFERS_PORT_HAS_SIGNALS		0
#define BUFFERS_PORT_HAS_ROBUST_LOCKS		0
#define BUFFERS_PORT_HAS_OTHER_PROCESSES	1	/* other-process.c */
#define BUFFERS_PORT_HAS_RX_WRITE		1	/* rx-sections.c */
#define BUFFERS_PORT_HAS_VIEWS			1	/* rx-sections.c */

#endif

## SPDX-License-Identifier: MIT

dist_man_MANS = \
	man/buffers.7 \
	man/buffers_alloc.3 \
	man/buffers_alloc_in.3 \
	man/buffers_append.3 \
	man/buffers_arena_create.3 \
	man/buffers_get.3 \
	man/buffers_give_back.3 \
	man/buffers_hpp.3 \
	man/buffers_overwrite.3 \
	man/buffers_protect.3 \
	man/buffers_view.3 \
	man/buffers_walk.3
# Each of these contains one line, which includes the page of its family.
dist_man_MANS += \
	man/buffers_append_code.3 \
	man/buffers_arena_destroy.3 \
	man/buffers_arena_get.3 \
	man/buffers_base.3 \
	man/buffers_flush_icache.3 \
	man/buffers_free.3 \
	man/buffers_free_in.3 \
	man/buffers_get_near.3 \
	man/buffers_next.3 \
	man/buffers_overwrite_with.3 \
	man/buffers_release.3 \
	man/buffers_remaining.3 \
	man/buffers_request_narrow.3 \
	man/buffers_request_near.3 \
	man/buffers_reserve.3 \
	man/buffers_size.3

/* SPDX-License-Identifier: MIT */
/* measure.hpp: time, mappings and resident memory of this process */
#ifndef MEASURE_HPP
#define MEASURE_HPP

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

struct measurement {
	long mappings = 0;
	long resident = 0;	/* pages */
	std::chrono::steady_clock::time_point time;

	measurement()
	{
		if (std::FILE *maps = std::fopen("/proc/self/maps", "r")) {
			for (int c; (c = std::getc(maps)) != EOF;)
				mappings += c == '\n';
			std::fclose(maps);
		}
		if (std::FILE *pages = std::fopen("/proc/self/statm", "r")) {
			if (std::fscanf(pages, "%*d %ld", &resident) != 1)
				resident = 0;
			std::fclose(pages);
		}
		time = std::chrono::steady_clock::now();
	}
};

inline void report(const char *what, const measurement &begin, const measurement &end, int count)
{
	const std::chrono::duration<double, std::nano> elapsed = end.time - begin.time;

	std::printf("%-12s %8.2f ns each\n", what, elapsed.count() / count);
}

inline void report_memory(const measurement &begin, const measurement &end)
{
	std::printf("%-12s %8ld\n", "mappings", end.mappings - begin.mappings);
	std::printf("%-12s %8ld KiB\n", "resident",
		    (end.resident - begin.resident) * (sysconf(_SC_PAGESIZE) / 1024));
}

#endif

/** How the tests run: in two processes, with time for images that the system's tools make. */
import type { ViteUserConfig } from "vitest/config";

const { QUIRE_ARENA_MIB } = process.env;
const hasSmallArena = QUIRE_ARENA_MIB !== undefined;

const config: ViteUserConfig = {
  test: {
    setupFiles: hasSmallArena ? ["test/support/small-arena.ts"] : [],
    // Counts of requests are those of a cache that holds what is worked on.
    exclude: hasSmallArena ? ["test/stack/*counts*"] : [],
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 240_000,
    pool: "forks",
    maxWorkers: 2,
  },
};

export default config;

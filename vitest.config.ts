/**
 * How the tests run: in two processes, with time for images that the system's tools make. Where
 * `CI` is set, what works on caches runs a second time with the smallest one.
 */
import type { ViteUserConfig } from "vitest/config";

const { CI, QUIRE_ARENA_MIB } = process.env;
const SMALL_ARENA = "test/support/small-arena.ts";
const hasSmallArena = QUIRE_ARENA_MIB !== undefined;

const suite = {
  setupFiles: hasSmallArena ? [SMALL_ARENA] : [],
  // Counts of requests are those of a cache that holds what is worked on.
  exclude: hasSmallArena ? ["test/stack/*counts*"] : [],
  include: ["src/**/*.test.ts", "test/**/*.test.ts"],
};

const withSmallArena = {
  name: "4 MiB",
  env: { QUIRE_ARENA_MIB: "4" },
  setupFiles: [SMALL_ARENA],
  include: [
    "src/{cache,mapping}/**/*.test.ts",
    "test/support/*.test.ts",
    "test/conformance/*.test.ts",
    "test/spec/{iomap,page-cache}/*.test.ts",
    "test/stack/{freeze*,small*,volume*,write*}.test.ts",
  ],
};

const runsBoth = CI !== undefined && !hasSmallArena;

const config: ViteUserConfig = {
  test: {
    ...(runsBoth
      ? {
          projects: [
            { extends: true, test: { name: "suite", ...suite } },
            { extends: true, test: withSmallArena },
          ],
        }
      : suite),
    testTimeout: 120_000,
    hookTimeout: 240_000,
    pool: "forks",
    maxWorkers: 2,
  },
};

export default config;

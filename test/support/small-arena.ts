/**
 * With `QUIRE_ARENA_MIB` set, no page cache of the tests is larger than that: the whole suite has
 * to pass with the smallest one, of 4 MiB. Loaded by `vitest.config.ts`, before each test file.
 *
 *     QUIRE_ARENA_MIB=4 npx vitest run
 *
 * It reaches every cache that is made in the process of the tests, whatever size it was asked for.
 * Not those of processes that a test starts: the examples of README.md (`test/package.test.ts`).
 * A test of what only a large cache shows calls `withExactArenas`, and says why.
 */
import { onTestFinished } from "vitest";
import { Arena, type ArenaOptions } from "../../src/cache/arena.ts";
import { MIB } from "../../src/lib/units.ts";

const { QUIRE_ARENA_MIB } = process.env;
let isExact = false;

if (QUIRE_ARENA_MIB !== undefined) {
  const mostBytes = Number(QUIRE_ARENA_MIB) * MIB;
  const create = Arena.create.bind(Arena);
  Arena.create = (options: ArenaOptions): Arena =>
    create(isExact ? options : { ...options, sizeBytes: Math.min(options.sizeBytes, mostBytes) });
}

/** Until the test that calls it ends, caches have the size that they are asked for. */
export function withExactArenas(): void {
  isExact = true;
  onTestFinished(() => {
    isExact = false;
  });
}

/**
 * With `QUIRE_ARENA_MIB` set, no page cache of the tests is larger than that: the whole suite has
 * to pass with the smallest one, of 4 MiB. Loaded by `vitest.config.ts`, before each test file.
 *
 *     QUIRE_ARENA_MIB=4 npx vitest run test
 */
import { Arena, type ArenaOptions } from "../../src/cache/arena.ts";
import { MIB } from "../../src/lib/units.ts";

const mostBytes = Number(process.env["QUIRE_ARENA_MIB"]) * MIB;
const create = Arena.create.bind(Arena);

Arena.create = (options: ArenaOptions): Arena =>
  create({ ...options, sizeBytes: Math.min(options.sizeBytes, mostBytes) });

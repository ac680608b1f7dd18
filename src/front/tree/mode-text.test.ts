import { chmodSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { Random } from "../../lib/random.ts";
import { parseMode } from "./mode-text.ts";

const hasChmod = requireTool("chmod");
const scratch = scratchDirectory("mode");
const UMASK = 0o022;
const SEED = 20_260_801;

/** A mode as somebody might write it. */
function randomMode(random: Random): string {
  if (random.chance(0.2)) {
    const digits = random.below(0o10000).toString(8);
    const sign = random.chance(0.3) ? random.pick(["+", "-", "="]) : "";
    return sign + "0".repeat(random.below(3)) + digits;
  }
  const letters = (from: string, most: number): string =>
    Array.from({ length: random.below(most + 1) }, () => random.pick([...from])).join("");
  const clauses = Array.from({ length: 1 + random.below(3) }, () => {
    const actions = Array.from({ length: 1 + random.below(2) }, () => {
      const what = random.chance(0.2) ? random.pick(["u", "g", "o"]) : letters("rwxXst", 4);
      return random.pick(["+", "-", "="]) + what;
    });
    return letters("ugoa", 2) + actions.join("");
  });
  return clauses.join(",");
}

describe("modes", () => {
  test.each([
    ["u=rw,go-w", 0o777, false, 0o655],
    ["a-x", 0o755, false, 0o644],
    ["+w", 0o444, false, 0o644],
    ["go=u", 0o750, false, 0o777],
    ["+X", 0o644, false, 0o644],
    ["+X", 0o644, true, 0o755],
    ["755", 0o2700, true, 0o2755],
    ["00755", 0o2700, true, 0o755],
    ["755", 0o6700, false, 0o755],
    ["u-s", 0o4755, true, 0o755],
  ] as const)("%s of %o", (text, mode, isDirectory, wanted) => {
    expect(parseMode(text, UMASK)?.({ mode, isDirectory })).toBe(wanted);
  });

  test.each(["", "9", "rw", "u=q", "u+r,", "10000", "u", "+8"])("%j is none", (text) => {
    expect(parseMode(text, UMASK)).toBeUndefined();
  });

  test.skipIf(!hasChmod)("are what chmod of this machine makes of them", () => {
    const random = new Random(SEED);
    const [file, directory] = [join(scratch, "file"), join(scratch, "directory")];
    writeFileSync(file, "");
    mkdirSync(directory);
    for (let round = 0; round < 400; round++) {
      const isDirectory = random.chance(0.5);
      const path = isDirectory ? directory : file;
      const before = random.below(0o10000) | (isDirectory ? 0o700 : 0);
      chmodSync(path, before);
      const mode = statSync(path).mode & 0o7777;
      const text = randomMode(random);
      runTool("sh", ["-c", 'umask 022; exec chmod -- "$0" "$1"', text, path]);
      const wanted = statSync(path).mode & 0o7777;
      const ours = parseMode(text, UMASK)?.({ mode, isDirectory });
      expect({ seed: SEED, text, mode, isDirectory, result: ours }).toEqual({
        seed: SEED,
        text,
        mode,
        isDirectory,
        result: wanted,
      });
    }
  });
});

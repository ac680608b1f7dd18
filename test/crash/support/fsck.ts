/**
 * e2fsck as a judge of many images that differ little: one file in which the changed sectors are
 * written, and taken back after each check.
 */
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { SECTOR_BYTES } from "../../../src/lib/units.ts";
import { runTool } from "../../support/tools.ts";
import type { CrashImage } from "./crash-image.ts";

/** See the head of the file. */
export class Fsck {
  readonly #path: string;

  /** Works in the file `path`, which begins as `base`. */
  constructor(path: string, base: Uint8Array) {
    writeFileSync(path, base);
    this.#path = path;
  }

  /** What `e2fsck -fn` says of `image`; undefined if it is clean. */
  complaintAbout(image: CrashImage): string | undefined {
    const changed = image.changed();
    this.#put(changed.map(({ sector, bytes }) => [sector, bytes]));
    try {
      runTool("e2fsck", ["-fn", this.#path]);
      return undefined;
    } catch (thrown) {
      return (thrown as Error).message.replaceAll("\n", " ");
    } finally {
      const { base } = image;
      this.#put(
        changed.map(({ sector }) => {
          const at = sector * SECTOR_BYTES;
          return [sector, base.subarray(at, at + SECTOR_BYTES)];
        }),
      );
    }
  }

  /**
   * `image` as `e2fsck -fy` leaves it. Throws with what it said if there is anything that it cannot
   * mend.
   */
  repaired(image: CrashImage): Uint8Array {
    this.#put(image.changed().map(({ sector, bytes }) => [sector, bytes]));
    try {
      runTool("e2fsck", ["-fy", this.#path], { okCodes: [1] });
      return new Uint8Array(readFileSync(this.#path));
    } finally {
      writeFileSync(this.#path, image.base);
    }
  }

  #put(sectors: readonly (readonly [number, Uint8Array])[]): void {
    const file = openSync(this.#path, "r+");
    for (const [sector, bytes] of sectors) {
      writeSync(file, bytes, 0, bytes.length, sector * SECTOR_BYTES);
    }
    closeSync(file);
  }
}

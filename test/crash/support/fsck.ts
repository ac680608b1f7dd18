/**
 * e2fsck and the kernel as judges of many images that differ little: one file in which the changed
 * sectors are written, and taken back after each check.
 */
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { SECTOR_BYTES } from "../../../src/lib/units.ts";
import { withKernelMount } from "../../support/kernel-image.ts";
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
   * `image` as e2fsck leaves it: with "-fy" it mends all that it can, with "-fp" only what needs no
   * answer. Throws with what it said if there is something else.
   */
  mended(image: CrashImage, how: "-fy" | "-fp"): Uint8Array {
    return this.#changed(image, (path) => runTool("e2fsck", [how, path], { okCodes: [1] }));
  }

  /** `image` as the kernel leaves it that has mounted it, which e2fsck finds nothing wrong with. */
  mounted(image: CrashImage): Uint8Array {
    return this.#changed(image, (path) => {
      withKernelMount(path, () => undefined);
      runTool("e2fsck", ["-fn", path]);
    });
  }

  #changed(image: CrashImage, change: (path: string) => void): Uint8Array {
    this.#put(image.changed().map(({ sector, bytes }) => [sector, bytes]));
    try {
      change(this.#path);
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

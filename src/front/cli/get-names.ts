/**
 * Which names and symlink targets of an image may be made on the host.
 *
 * The image's reader has refused `/`, NUL, `.` and `..` as names already; it is checked once more
 * here, where it would hurt. On Windows the names that mean something else there are refused too.
 */
import { FsError } from "../../lib/errno.ts";
import { printable } from "./output.ts";

const SLASH = 0x2f;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const WINDOWS_DEVICES = /^(con|conin\$|conout\$|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)/i;

/** Throws `EINVAL` for a name that must not be made in a directory of the host. */
export function checkName(name: Uint8Array, platform: string = process.platform): void {
  const refuse = (why: string): never => {
    throw new FsError("EINVAL", { detail: `the name '${printable(name)}' ${why}` });
  };
  if (name.length === 0) refuse("is empty");
  if (name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e))) {
    refuse("is not a name");
  }
  if (name.includes(0) || name.includes(SLASH)) refuse("holds a NUL or a slash");
  if (platform !== "win32") return;
  const text = new TextDecoder().decode(name);
  if (/[\\:*?"<>|\p{Cc}]/u.test(text)) refuse("holds a character that Windows does not allow");
  if (/[. ]$/.test(text)) refuse("ends in a dot or blank, which Windows drops");
  if (WINDOWS_DEVICES.test(text)) refuse("is a device on Windows");
}

/**
 * True if a symlink `depth` levels below the destination (1 directly in it) stays inside, whatever
 * other links lie on the way: its target is relative, and goes up only at its beginning and not too
 * far; on Windows it has neither a backslash nor a drive. All links that are made keep to that, so
 * each step of a resolution begins and ends inside.
 */
export function isInsideTarget(
  target: Uint8Array,
  depth: number,
  platform: string = process.platform,
): boolean {
  if (target.length === 0 || target[0] === SLASH) return false;
  if (platform === "win32" && (target.includes(BACKSLASH) || target.includes(COLON))) return false;
  const parts = Buffer.from(target).toString("latin1").split("/");
  let ups = 0;
  let hasGoneDown = false;
  for (const part of parts) {
    if (part === "" || part === ".") continue;
    if (part !== "..") hasGoneDown = true;
    else if (hasGoneDown) return false;
    else ups++;
  }
  return ups <= depth - 1;
}

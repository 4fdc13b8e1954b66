// Which couplings have a factor on their momentum. Apart from what the couplings do, so that settings can be checked
// without loading them.

/** Whether the coupling of this name has a gamma. */
export const hasGamma = (coupling: string): boolean => coupling === "momentum" || coupling === "bdia";

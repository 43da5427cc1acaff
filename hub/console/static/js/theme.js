// Runs before the first paint: the person's choice of light or dark, else the system's.
{
  const wanted = localStorage.getItem("curbstop-theme");
  if (wanted === "light" || wanted === "dark") document.documentElement.dataset.theme = wanted;
}
